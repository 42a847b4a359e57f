"""Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), which keeps an average of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ninokit._optional import require
from ninokit.benchmarks.arms.adamw import trainable
from ninokit.benchmarks.arms.arm import Arm, Option, Recipe
from ninokit.benchmarks.arms.trainer import Trainer
from ninokit.training.average import restored
from ninokit.training.batchnorm import recollect_statistics

__all__ = ["SCHEDULE_FREE", "OwnAverage"]

_BETA1 = Option("beta1", default=0.9, values=(0.9, 0.95, 0.98))
_LONGEST_WARM_UP = 100  # steps


class OwnAverage:
    """The average x that a schedule-free optimizer keeps beside the weights y at which it takes the gradients.

    Args:
        model: the network.
        optimizer: of the package ``schedulefree``, in its training mode; it is left in it.
    """

    events = ()

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self._model = model
        self._optimizer = optimizer

    @contextmanager
    def averaged(self, batches: Iterable[Any] | None = None) -> Iterator[None]:
        """See `Trainer.averaged`."""
        with restored([*self._model.parameters(), *self._model.buffers()]):
            self._optimizer.eval()
            try:
                if batches is not None:
                    recollect_statistics(self._model, batches)
                yield
            finally:
                self._optimizer.train()  # y comes back rounded

    def detach(self) -> None:
        """There is nothing to undo."""


def _begin(model: nn.Module, recipe: Recipe) -> Trainer:
    optimizer = require("schedulefree", "arm 'schedule_free'").AdamWScheduleFree(
        trainable(model),
        lr=recipe.lr,
        betas=(recipe.value_of(_BETA1), 0.999),
        weight_decay=recipe.weight_decay,
        # Half of the average's window, so that it is the same whatever number of steps is asked about.
        warmup_steps=min(_LONGEST_WARM_UP, recipe.window // 2),
    )
    optimizer.train()
    return Trainer([optimizer], OwnAverage(model, optimizer))


SCHEDULE_FREE = Arm(
    name="schedule_free",
    description="schedule-free AdamW, averaged by itself",
    begin=_begin,
    option=_BETA1,
)
