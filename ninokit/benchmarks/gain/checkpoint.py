"""All of a training at one step, and the past that a nowcaster looks at.

Shape legend: context = past states, oldest first; shape… = a parameter's own shape.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ninokit.benchmarks.gain.averages import BoxAverage
from ninokit.benchmarks.gain.training import Training, cuda_devices

__all__ = ["Checkpoint", "ContextRecorder", "Snapshot", "trainable"]


@dataclass(frozen=True)
class Snapshot:
    """The state of a training, as copies.

    Args:
        step: optimizer steps done.
        tensors: name → parameter or buffer, those that the model's ``state_dict`` leaves out too.
        optimizer: its state.
        random: torch's random states: the CPU's, then those of the model's GPUs.
    """

    step: int
    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    random: list[Tensor]

    @classmethod
    def of(cls, training: Training, step: int) -> Snapshot:
        """The state as it is now.

        Args:
            training: whose state.
            step: optimizer steps done.

        Returns:
            The copy.
        """
        model = training.model
        return cls(
            step,
            {name: tensor.detach().clone() for name, tensor in _tensors(model).items()},
            copy.deepcopy(training.optimizer.state_dict()),
            [torch.get_rng_state(), *map(torch.cuda.get_rng_state, cuda_devices(model))],
        )

    @torch.no_grad()
    def restore(self, training: Training) -> None:
        """Put the state back, bit for bit, torch's random state too; gradients are left alone.

        Args:
            training: made as the one that this is a state of.
        """
        for name, tensor in _tensors(training.model).items():
            tensor.copy_(self.tensors[name])
        # A copy, as the optimizer goes on in what it is given.
        training.optimizer.load_state_dict(copy.deepcopy(dict(self.optimizer)))
        torch.set_rng_state(self.random[0])
        for device, state in zip(cuda_devices(training.model), self.random[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(chain(model.named_parameters(), model.named_buffers()))


@dataclass(frozen=True)
class Checkpoint:
    """Where trials begin.

    Args:
        snapshot: the state of the training, just before a jump would be.
        states: context → name → the past states that NowcastPlan would take, shape (context, shape…).
        means: context → name → the means of the weights over the steps from state to state, shape (context, shape…).
    """

    snapshot: Snapshot
    states: Mapping[int, Mapping[str, Tensor]]
    means: Mapping[int, Mapping[str, Tensor]]


class ContextRecorder:
    """The past states of the trained weights, and their means in between, in every period.

    Args:
        parameters: name → parameter.
        period: optimizer steps, at least ``context``.
        context: states a period, evenly spaced, the last at its end.
    """

    def __init__(self, parameters: Mapping[str, Tensor], period: int, context: int) -> None:
        self._parameters = dict(parameters)
        self._period = period
        self._context = context
        self._interval = period // context
        self._box = BoxAverage(parameters, self._interval)
        self._states: deque[dict[str, Tensor]] = deque(maxlen=context)
        self._means: deque[dict[str, Tensor]] = deque(maxlen=context)

    def after_step(self, step: int) -> None:
        """Take note of the weights.

        Args:
            step: optimizer steps done; called after each.
        """
        before_end = -step % self._period
        if before_end >= self._interval * self._context:
            return  # the first steps of a period that its context does not divide
        self._box.add()
        if self._box.full:
            self._states.append({name: each.detach().clone() for name, each in self._parameters.items()})
            self._means.append(self._box.means())

    @property
    def states(self) -> dict[str, Tensor]:
        """Name → states of the period that has just ended, shape (context, shape…)."""
        return _stacked(self._states)

    @property
    def means(self) -> dict[str, Tensor]:
        """Name → means, the last over the steps up to now, shape (context, shape…)."""
        return _stacked(self._means)


def _stacked(taken: deque[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([each[name] for each in taken]) for name in taken[-1]}


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Name → parameter of those that need a gradient."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
