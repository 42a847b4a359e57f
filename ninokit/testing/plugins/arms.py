"""Checks of an arm, on a training of a small network.

Shapes: B = 16 examples, of 3 numbers each, in 2 classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from ninokit.benchmarks.arms import Arm, Recipe, Trainer, UnsuitedArmError
from ninokit.testing.plugins.findings import Check, CheckError, NotApplicableError

__all__ = ["arm_checks"]

_STEPS = 12


def arm_checks(arm: Arm) -> Iterator[Check]:
    """Checks of an arm.

    Args:
        arm: the arm.

    Yields:
        The checks.
    """
    for value in arm.option.values if arm.option else (None,):
        setting = f", {arm.option.name} {value:g}" if arm.option and value is not None else ""
        yield Check(f"arm {arm.name}: training{setting}", partial(_check_training, arm, value))
    yield Check(f"arm {arm.name}: read-outs", lambda: _check_read_outs(arm))


def _begin(arm: Arm, option: float | None = None) -> tuple[nn.Module, Tensor, Trainer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.randn(16, 3)
    recipe = Recipe(lr=1e-3, weight_decay=0.01, steps=_STEPS, period=6, window=4, option=option, example_inputs=inputs)
    try:
        return model, inputs, arm.begin(model, recipe)
    except UnsuitedArmError as error:
        raise NotApplicableError(str(error)) from error


def _train(model: nn.Module, inputs: Tensor, trainer: Trainer) -> None:
    for _ in range(_STEPS):
        trainer.zero_grad()
        nn.functional.cross_entropy(model(inputs), (inputs[:, 0] > 0).long()).backward()
        trainer.step()


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _check_training(arm: Arm, option: float | None) -> str:
    model, inputs, trainer = _begin(arm, option)
    before = _state(model)
    _train(model, inputs, trainer)
    trainer.close()
    names = [name for name, _ in model.named_parameters()]
    still = [name for name in names if torch.equal(before[name], model.state_dict()[name])]
    broken = [name for name in names if not model.state_dict()[name].isfinite().all()]
    if still or broken:
        raise CheckError(f"after {_STEPS} steps: expected all weights moved and finite; still {still}, broken {broken}")
    return f"{_STEPS} steps, {len(trainer.events)} nowcasts"


def _check_read_outs(arm: Arm) -> str:
    model, inputs, trainer = _begin(arm)
    _train(model, inputs, trainer)
    read_outs: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "raw": trainer.raw,
        "averaged": lambda: trainer.averaged([inputs]),
    }
    before = _state(model)
    for name, read_out in read_outs.items():
        with read_out():
            if not all(parameter.isfinite().all() for parameter in model.parameters()):
                raise CheckError(f"{name}: expected finite weights")
        changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
        if changed:
            raise CheckError(f"{name}: afterwards {', '.join(changed)} differ; put the same bits back")
    _train(model, inputs, trainer)
    trainer.close()
    return "the weights came back bit for bit, and the training went on"
