"""SNOO on AdamW (arXiv 2510.15830): every K steps, Nesterov momentum on how far the weights have come."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ninokit.benchmarks.arms.adamw import trainable
from ninokit.benchmarks.arms.arm import Arm, Option, Recipe
from ninokit.benchmarks.arms.trainer import Trainer, averaging_trainer

__all__ = ["SNOO", "OuterStep"]

_INTERVAL = Option("K", default=25, values=(10, 25, 50, 100))
_OUTER_RATE = 0.7
_OUTER_MOMENTUM = 0.5


class OuterStep:
    """Slow weights, which take a step along the displacement of the trained ones; these go on from there.

    It is a hook that runs after each step of the inner optimizer.

    Args:
        optimizer: the inner one; its parameters are the trained weights.
        interval: inner steps between two outer ones, at least 1.

    Source: Kallusky et al. 2025, algorithm 1; slow minus trained weights are the outer gradient.
    """

    def __init__(self, optimizer: Optimizer, interval: int) -> None:
        self._trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._slow = [parameter.detach().clone() for parameter in self._trained]
        self._outer = SGD(self._slow, lr=_OUTER_RATE, momentum=_OUTER_MOMENTUM, nesterov=True)
        self._interval = interval
        self._steps = 0  # of the inner optimizer

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count an inner step; every ``interval`` steps, take an outer one."""
        self._steps += 1
        if self._steps % self._interval:
            return
        for slow, trained in zip(self._slow, self._trained, strict=True):
            slow.grad = slow - trained
        self._outer.step()
        for slow, trained in zip(self._slow, self._trained, strict=True):
            trained.copy_(slow)


def _begin(model: nn.Module, recipe: Recipe) -> Trainer:
    optimizer = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)
    outer = OuterStep(optimizer, round(recipe.value_of(_INTERVAL)))
    return averaging_trainer(model, [optimizer], recipe.window, hooks=[optimizer.register_step_post_hook(outer)])


SNOO = Arm(
    name="snoo",
    description="SNOO: AdamW, with Nesterov momentum on the displacement of every K steps",
    begin=_begin,
    option=_INTERVAL,
)
