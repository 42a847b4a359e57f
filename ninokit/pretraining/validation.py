"""Validation of a meta-training on fixed slices, beside the forecasts that need no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ninokit.errors import ConfigError
from ninokit.pretraining.objective import ScaledSlices, linefit_errors, mean_error, unchanged_errors
from ninokit.pretraining.slices import Slices, SliceSampler
from ninokit.pretraining.trajectory import Trajectory

__all__ = ["LINEFIT", "TASKS", "TRAINED", "UNCHANGED", "UNSEEN", "Scores", "Split", "Validation", "split_trajectories"]

# What is predicted by.
TRAINED, UNCHANGED, LINEFIT = "nowcaster", "no change", "linefit"
# What is held out.
UNSEEN, TASKS = "unseen seeds", "unseen tasks"

_SLICES = 64  # of each held-out part, shared by its tasks
_LEAST_SLICES = 8  # of a task


@dataclass(frozen=True)
class Split:
    """Which trajectories are trained on, and which are held out.

    Args:
        training: at least one.
        held_out: what is held out → its trajectories, at least one.
    """

    training: Sequence[Trajectory]
    held_out: Mapping[str, Sequence[Trajectory]]

    @property
    def summary(self) -> dict[str, list[tuple[str, int, int]]]:
        """Task, seed and number of states of the trajectories of each part, in plain values."""
        parts = {"training": self.training, **self.held_out}
        return {name: [(t.task, t.seed, len(t.steps)) for t in part] for name, part in parts.items()}


def split_trajectories(trajectories: Sequence[Trajectory], tasks: Sequence[str], share: float) -> Split:
    """Hold trajectories out of the training: all of some tasks, and the last seeds of the others.

    Args:
        trajectories: of a store.
        tasks: to hold out.
        share: of the seeds of each other task, rounded up; below 1.

    Returns:
        The split.

    Raises:
        ConfigError: if there is no such task, or nothing is left to train on.
    """
    known = sorted({trajectory.task for trajectory in trajectories})
    for task in tasks:
        if task not in known:
            raise ConfigError(f"validation_tasks: no trajectory is of {task!r}; the tasks are {', '.join(known)}")
    others = [trajectory for trajectory in trajectories if trajectory.task not in tasks]
    last = {id(t) for task in known for t in _last([x for x in others if x.task == task], share)}
    training = [trajectory for trajectory in others if id(trajectory) not in last]
    if not training:
        raise ConfigError(
            f"nothing is left to train on: expected more than {len(trajectories)} trajectories, or fewer held out than "
            f"the tasks {list(tasks)} and a share of {share:g} of the others' seeds"
        )
    held_out = {
        UNSEEN: [trajectory for trajectory in others if id(trajectory) in last],
        TASKS: [trajectory for trajectory in trajectories if trajectory.task in tasks],
    }
    return Split(training, {name: part for name, part in held_out.items() if part})


def _last(trajectories: Sequence[Trajectory], share: float) -> Sequence[Trajectory]:
    count = -int(-len(trajectories) * share // 1)
    return sorted(trajectories, key=lambda trajectory: trajectory.seed)[len(trajectories) - count :]


@dataclass(frozen=True)
class Scores:
    """L1 distances on one held-out part: means over slices, every task having the same weight.

    Args:
        mean: over the known horizon.
        by_horizon: at each horizon; NaN where no slice reaches so far.
    """

    mean: float
    by_horizon: tuple[float, ...]

    @classmethod
    def of(cls, errors: Sequence[Tensor], known: Sequence[Tensor]) -> Scores:
        """From the errors on stacks, a task each.

        Args:
            errors: of each stack, shape (stack, horizon).
            known: which of them count, of the same shapes.
        """
        means = [mean_error(error, counts).item() for error, counts in zip(errors, known, strict=True)]
        # 0 / 0 where nothing is known; a task that does not reach so far does not count there.
        tasks = [(error * counts).sum(0) / counts.sum(0) for error, counts in zip(errors, known, strict=True)]
        return cls(float(np.mean(means)), tuple(torch.stack(tasks).nanmean(0).tolist()))


class Validation:
    """Slices of what is held out, the same at every validation, with the errors of untrained forecasts.

    Args:
        samplers: name of a held-out part → what to draw its slices from, on the CPU.
        context: past states of a slice.
        generator: what the draw depends on.
        edges: that are computed with at a time, which bounds the memory; None sets no limit.
    """

    def __init__(
        self,
        samplers: Mapping[str, SliceSampler],
        context: int,
        generator: np.random.Generator,
        edges: int | None = None,
    ) -> None:
        self._slices = {name: _draw(sampler, generator) for name, sampler in samplers.items()}
        self._edges = edges
        self._floors = {
            name: {
                UNCHANGED: self._scores(stacks, lambda stack: unchanged_errors(ScaledSlices.of(stack, context))),
                LINEFIT: self._scores(stacks, lambda stack: linefit_errors(ScaledSlices.of(stack, context))),
            }
            for name, stacks in self._slices.items()
        }

    def measure(self, errors: Callable[[Slices], Tensor]) -> dict[str, dict[str, Scores]]:
        """Validate a nowcaster.

        Args:
            errors: from a stack of slices to the nowcaster's errors on it, of shape (stack, horizon).

        Returns:
            Held-out part → what predicts → its scores.
        """
        return {
            name: {TRAINED: self._scores(stacks, errors)} | self._floors[name] for name, stacks in self._slices.items()
        }

    def _scores(self, stacks: Sequence[Slices], errors: Callable[[Slices], Tensor]) -> Scores:
        of_tasks = [torch.cat([errors(piece) for piece in stack.pieces(self._edges)]) for stack in stacks]
        return Scores.of(of_tasks, [stack.known for stack in stacks])


def _draw(sampler: SliceSampler, generator: np.random.Generator) -> list[Slices]:
    count = max(_LEAST_SLICES, _SLICES // len(sampler.tasks))
    return [sampler.draw_task(generator, task, count) for task in sampler.tasks]
