"""Lookahead optimizers, as timm wraps them around others: slow weights follow the trained ones every few steps.

Such a wrapper is an optimizer by class, but does not call `torch.optim.Optimizer`'s constructor: hooks on its steps
are never run, and those on its state can't be registered.
"""

from __future__ import annotations

from torch.optim import Optimizer

from ninokit.errors import ConfigError

__all__ = ["run_step_hooks", "state_owner"]


def state_owner(optimizer: Optimizer) -> Optimizer:
    """The optimizer that has the state.

    Args:
        optimizer: any optimizer.

    Returns:
        What a Lookahead wraps; any other optimizer itself.
    """
    base = getattr(optimizer, "_base_optimizer", None)
    return base if isinstance(base, Optimizer) else optimizer


def run_step_hooks(optimizer: Optimizer) -> None:
    """Make a Lookahead's class run the hooks on its steps, as torch does for every class at the first construction.

    Args:
        optimizer: any optimizer; one that is no Lookahead runs them already.

    Raises:
        ConfigError: if a scheduler holds the step that runs no hooks.
    """
    if state_owner(optimizer) is optimizer or getattr(type(optimizer).step, "hooked", False):
        return
    if "step" in vars(optimizer):
        name = type(optimizer).__name__
        raise ConfigError(
            f"optimizer: a learning rate scheduler was made before, and holds on to a step of {name} that runs no "
            "hooks; make the optimizer anew, attach, then make the scheduler"
        )
    optimizer._patch_step_function()
