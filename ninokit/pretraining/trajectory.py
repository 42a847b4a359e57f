"""The states that one network went through while it was trained.

Shapes: T states of a trajectory, P parameters of its network, all flattened in the order of `named_parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ninokit.errors import StoreError
from ninokit.pretraining.cohort import Cohort

__all__ = ["Trajectory"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A network's way through training, in a store. It holds no states itself: `states` reads what is asked for.

    Args:
        task: name of the registered task that was trained.
        seed: of the initial weights, the order of the batches and the hyperparameters.
        hyperparameters: the optimizer's, such as ``lr`` and ``weight_decay``.
        steps: optimizer steps before each state, evenly spaced from 0, int64 of shape (T,).
        parameters: name and shape of each parameter, in the order of ``named_parameters``.
        score: the task's score after the last step; None while training is under way, or where it diverged.
    """

    task: str
    seed: int
    hyperparameters: Mapping[str, float]
    steps: npt.NDArray[np.int64]
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    score: float | None
    _cohort: Cohort = field(repr=False)
    _row: int = field(repr=False)

    @property
    def num_parameters(self) -> int:
        """P."""
        return self._cohort.description.num_parameters

    @property
    def losses(self) -> npt.NDArray[np.float32]:
        """The mean training loss in nats since the state before; the first state's own. Shape (T,)."""
        return self._cohort.losses(self._row, len(self.steps))

    def states(self, start: int, stop: int, stride: int = 1) -> Tensor:
        """Some of the states; only the chunks that hold them are read.

        Args:
            start: index of the first, at least 0.
            stop: index after the last, above ``start`` and at most T.
            stride: states from one to the next, at least 1.

        Returns:
            float32, of shape (n, P) with n = ceil((stop - start) / stride).

        Raises:
            StoreError: there are no such states, or they are damaged.
        """
        if not (0 <= start < stop <= len(self.steps) and stride >= 1):
            raise StoreError(
                f"trajectory of task {self.task!r}, seed {self.seed}: expected 0 <= start < stop <= {len(self.steps)}, "
                f"its states, and a stride of at least 1; got states({start}, {stop}, {stride})"
            )
        return self._cohort.states(self._row, slice(start, stop, stride))

    def build_model(self) -> nn.Module:
        """A new network of this trajectory's architecture, from the registered task.

        Returns:
            The network; its parameters are those of ``parameters``, with new initial numbers.

        Raises:
            ConfigError: no task of that name is registered.
            StoreError: the task's network has other parameters than the trajectory.
        """
        from ninokit.benchmarks.tasks.finding import find_task

        model = find_task(self.task).build_model()
        found = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
        if found != self.parameters:
            raise StoreError(
                f"trajectory of task {self.task!r}, seed {self.seed}: the task's network has other parameters today. "
                f"Expected {dict(self.parameters)}; got {dict(found)}. Collect the task anew"
            )
        return model
