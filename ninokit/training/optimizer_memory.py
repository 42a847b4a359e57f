"""What optimizers remember of where the weights were, after these have jumped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from ninokit.training.lookahead import state_owner

__all__ = ["follow_jump"]

# In the state of each parameter: timm's Lookahead pulls the weights half of the way to the slow ones every few steps,
# and MADGRAD to where they started from, plus a step.
_SLOW, _START = "lookahead_slow_buff", "x0"


@torch.no_grad()
def follow_jump(optimizer: Optimizer, before: Mapping[Tensor, Tensor]) -> None:
    """Let an optimizer's memory of the weights jump too; left behind, it would undo the jump.

    LBFGS, which takes the difference of two gradients for that of its own step, forgets them and starts anew.

    Args:
        optimizer: any optimizer.
        before: parameter, as it is now → its values before the jump, on any device.
    """
    owner = state_owner(optimizer)
    for parameter, values in before.items():
        state = owner.state.get(parameter, {})
        if _SLOW in state:
            state[_SLOW].copy_(parameter)
        if _START in state:
            state[_START].add_(parameter - values.to(parameter))
    if isinstance(owner, LBFGS):
        for state in owner.state.values():
            state["n_iter"] = 0
