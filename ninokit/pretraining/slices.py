"""Slices of trajectories: a few past states and the future ones, as a nowcaster meets them.

Shape legend: stack = slices of networks of one architecture; P = parameters of a network, flattened; shape… = a
parameter's own shape.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ninokit.benchmarks.tasks.finding import find_task
from ninokit.encoding import encode
from ninokit.errors import ConfigError
from ninokit.graph.structure import NeuralGraph
from ninokit.pretraining.trajectory import Trajectory

__all__ = ["SliceSampler", "Slices", "encode_tasks", "long_enough"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of trajectories of one task, side by side.

    Args:
        task: its name.
        graph: of its network.
        states: name → states, shape (stack, context + horizon, shape…); where a trajectory has ended, its last state.
        known: which future states are before the trajectory's end, bool of shape (stack, horizon).
    """

    task: str
    graph: NeuralGraph
    states: Mapping[str, Tensor]
    known: Tensor

    def pieces(self, edges: int | None) -> list[Slices]:
        """The same in parts that have no more edges together than is said, but at least one slice.

        Args:
            edges: at most so many; None leaves all in one.

        Returns:
            The parts, views of this.
        """
        size = len(self.known) if edges is None else max(1, edges // self.graph.num_edges)
        parts = [slice(start, start + size) for start in range(0, len(self.known), size)]
        return [
            Slices(self.task, self.graph, {n: x[part] for n, x in self.states.items()}, self.known[part])
            for part in parts
        ]

    def to(self, device: torch.device) -> Slices:
        """The same on a device."""
        states = {name: x.to(device, non_blocking=True) for name, x in self.states.items()}
        return Slices(self.task, self.graph, states, self.known.to(device, non_blocking=True))


def encode_tasks(trajectories: Sequence[Trajectory]) -> dict[str, NeuralGraph]:
    """The neural graph of every task's network.

    Args:
        trajectories: of any tasks.

    Returns:
        Task → graph.

    Raises:
        ArchitectureError: if a network can't be encoded.
        ConfigError: if a task is not registered.
        StoreError: if a task's network has other parameters today.
    """
    first = {trajectory.task: trajectory for trajectory in reversed(trajectories)}
    return {task: encode(first[task].build_model(), find_task(task).example_inputs()) for task in sorted(first)}


def long_enough(trajectories: Sequence[Trajectory], context: int, spacing: tuple[int, int]) -> list[Trajectory]:
    """Leave out trajectories that no slice fits into, as of networks that diverged early; a warning names them.

    Args:
        trajectories: of any tasks.
        context: past states of a slice.
        spacing: see `SliceSampler`.

    Returns:
        The others; of a task that has none, all.
    """
    fits = [bool(_strides(trajectory, context, spacing)) for trajectory in trajectories]
    usable = {trajectory.task for trajectory, whole in zip(trajectories, fits, strict=True) if whole}
    kept, short = [], defaultdict(list)
    for trajectory, whole in zip(trajectories, fits, strict=True):
        if whole or trajectory.task not in usable:
            kept.append(trajectory)
        else:
            short[trajectory.task].append(trajectory.seed)
    for task, seeds in short.items():
        _log.warning("task %r: the trajectories of the seeds %s are too short for a slice; left out", task, seeds)
    return kept


class SliceSampler:
    """Draws slices as nowcasts meet them: of all times of a training, with all spacings that are asked for.

    A slice may begin so late that its trajectory ends before its horizon does: late in a training nowcasts look but
    few states ahead, and these must be learnt too.

    Args:
        trajectories: to draw from, at least one.
        graphs: task → graph.
        context: past states of a slice.
        horizon: future states of a slice.
        spacing: least and most optimizer steps from one state of a slice to the next.
        memory: bytes; trajectories that fit in there all together are kept on the device once they are read, otherwise
            slices are read from the store one by one, and are on the CPU.
        device: where the slices are wanted.

    Raises:
        ConfigError: if the states of a trajectory stand too far apart for the spacing, or are too few for a slice.
    """

    def __init__(
        self,
        trajectories: Sequence[Trajectory],
        graphs: Mapping[str, NeuralGraph],
        *,
        context: int,
        horizon: int,
        spacing: tuple[int, int],
        memory: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._context = context
        self._horizon = horizon
        self._graphs = graphs
        self._device = device
        self._kept: dict[int, Tensor] = {}
        self._keeps = sum(_size(trajectory) for trajectory in trajectories) <= memory
        self._strides = {id(trajectory): self._feasible(trajectory, spacing) for trajectory in trajectories}
        self._by_task: dict[str, list[Trajectory]] = defaultdict(list)
        for trajectory in trajectories:
            self._by_task[trajectory.task].append(trajectory)

    @property
    def tasks(self) -> list[str]:
        """The tasks that there are slices of."""
        return sorted(self._by_task)

    def draw(self, generator: np.random.Generator, tasks: int, slices: int, edges: int | None = None) -> list[Slices]:
        """Draw slices of some tasks, all tasks being equally likely.

        Args:
            generator: what the draw depends on.
            tasks: how many; all of them if there are fewer.
            slices: of each.
            edges: of all slices of a task together; fewer slices are drawn of a network of which so many would have
                more, but one. None sets no limit.

        Returns:
            A stack a task.
        """
        names = generator.choice(self.tasks, size=min(tasks, len(self._by_task)), replace=False)
        return [self.draw_task(generator, str(name), self._affordable(str(name), slices, edges)) for name in names]

    def draw_task(self, generator: np.random.Generator, task: str, slices: int) -> Slices:
        """Draw slices of one task.

        Args:
            generator: what the draw depends on.
            task: one of `tasks`.
            slices: how many, at least 1.

        Returns:
            Their stack.
        """
        pool = self._by_task[task]
        chosen = [pool[number] for number in generator.integers(len(pool), size=slices)]
        drawn = [self._draw_slice(generator, trajectory) for trajectory in chosen]
        numbers = torch.tensor([len(states) for states in drawn])
        known = torch.arange(self._context, self._context + self._horizon) < numbers[:, None]
        whole = torch.stack([self._padded(states) for states in drawn])
        return Slices(task, self._graphs[task], _by_parameter(whole, chosen[0]), known)

    def _affordable(self, task: str, slices: int, edges: int | None) -> int:
        return slices if edges is None else max(1, min(slices, edges // self._graphs[task].num_edges))

    def _draw_slice(self, generator: np.random.Generator, trajectory: Trajectory) -> Tensor:
        """States of a slice, shape (context + known, P)."""
        stride = int(generator.choice(self._strides[id(trajectory)]))
        last = len(trajectory.steps) - 1
        start = int(generator.integers(last - self._context * stride + 1))
        most = start + (self._context + self._horizon - 1) * stride
        return self._states(trajectory, start, min(most, last) + 1, stride)

    def _states(self, trajectory: Trajectory, start: int, stop: int, stride: int) -> Tensor:
        if not self._keeps:
            return trajectory.states(start, stop, stride)
        if id(trajectory) not in self._kept:
            self._kept[id(trajectory)] = trajectory.states(0, len(trajectory.steps)).to(self._device)
        return self._kept[id(trajectory)][start:stop:stride]

    def _padded(self, states: Tensor) -> Tensor:
        missing = self._context + self._horizon - len(states)
        return torch.cat([states, states[-1:].expand(missing, -1)])

    def _feasible(self, trajectory: Trajectory, spacing: tuple[int, int]) -> range:
        """How many stored states a slice may step on by."""
        strides = _strides(trajectory, self._context, spacing)
        if not strides:
            raise ConfigError(
                f"trajectory of task {trajectory.task!r}, seed {trajectory.seed}: expected {self._context + 1} states "
                f"{spacing[0]} to {spacing[1]} optimizer steps apart; got {len(trajectory.steps)} states "
                f"{_every(trajectory)} apart. Change the spacing, or collect longer trajectories with states closer "
                "together"
            )
        return strides


def _strides(trajectory: Trajectory, context: int, spacing: tuple[int, int]) -> range:
    """How many stored states a slice may step on by: such that it has a future state at least."""
    (least, most), every = spacing, _every(trajectory)
    return range(max(1, -(-least // every)), min(most // every, (len(trajectory.steps) - 1) // context) + 1)


def _every(trajectory: Trajectory) -> int:
    """Optimizer steps from one stored state to the next."""
    steps = trajectory.steps
    return int(steps[1] - steps[0]) if len(steps) > 1 else 1


def _size(trajectory: Trajectory) -> int:
    """Bytes of a trajectory's states in float32."""
    return 4 * len(trajectory.steps) * sum(math.prod(shape) for _, shape in trajectory.parameters)


def _by_parameter(states: Tensor, trajectory: Trajectory) -> dict[str, Tensor]:
    """Cut flat states, of shape (stack, n, P), into parameters."""
    shapes = [torch.Size(shape) for _, shape in trajectory.parameters]
    parts = states.split([shape.numel() for shape in shapes], dim=-1)
    return {
        name: part.reshape(*part.shape[:2], *shape)
        for (name, _), shape, part in zip(trajectory.parameters, shapes, parts, strict=True)
    }
