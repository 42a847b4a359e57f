"""At which steps states are taken and nowcasts made, and how far each looks ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ninokit.errors import ConfigError

__all__ = ["NowcastPlan"]


@dataclass(frozen=True)
class NowcastPlan:
    """The calendar of a training.

    Args:
        period: optimizer steps between nowcasts.
        context: states taken in a period, evenly spaced, the last at its end.
        total_steps: optimizer steps of the whole training.
        horizons: of the nowcasts in order; the last serves for all that follow.
        in_last_period: whether to nowcast when less than a whole period is left to train.

    Raises:
        ConfigError: if a number is out of its range.
    """

    period: int
    context: int
    total_steps: int
    horizons: Sequence[int]
    in_last_period: bool = False

    def __post_init__(self) -> None:
        if self.period < self.context:
            raise ConfigError(
                f"period: expected at least {self.context} steps, one a state of the context, got {self.period}"
            )
        if self.total_steps < 1:
            raise ConfigError(f"total_steps: expected at least 1, got {self.total_steps}")
        if not self.horizons or min(self.horizons) < 1:
            raise ConfigError(f"horizons: expected numbers from 1 up, one a nowcast, got {list(self.horizons)}")

    @classmethod
    def without_nowcasts(cls) -> NowcastPlan:
        """The calendar of a training in which no state is taken and nothing jumps."""
        return cls(period=1, context=1, total_steps=1, horizons=(1,))

    def is_snapshot(self, step: int) -> bool:
        """Whether a state is taken after a step, counted from 1: only in periods that may end with a nowcast."""
        before_end = -step % self.period
        interval = self.period // self.context
        in_context = before_end % interval == 0 and before_end // interval < self.context
        return in_context and self.allows_nowcast(step + before_end)

    def states_taken(self, step: int) -> int:
        """How many states of its period have been taken when a step, counted from 1, is done."""
        return sum(self.is_snapshot(earlier) for earlier in range(step - step % self.period + 1, step + 1))

    def is_period_end(self, step: int) -> bool:
        """Whether a period ends with a step, counted from 1."""
        return step % self.period == 0

    def allows_nowcast(self, step: int) -> bool:
        """Whether enough training is left after a step for a jump to be recovered from."""
        return step <= self.total_steps - (0 if self.in_last_period else self.period)

    @property
    def nowcasts(self) -> bool:
        """Whether there is any nowcast in the whole training."""
        return self.allows_nowcast(self.period)

    def horizon(self, step: int) -> int:
        """How far to look ahead at the end of the period that ends with a step."""
        return self.horizons[min(step // self.period, len(self.horizons)) - 1]
