"""Equivalent steps: what an arm saves of its rival's steps, with an interval.

An arm has some loss after T steps. Its rival reaches that loss, lastingly, after S steps, read on its mean curve. Then
the arm saves 1 - T / S: 0.25 where the rival takes a third more. The interval is a bootstrap over the seeds, which both
share: the seeds are drawn anew with replacement, and the saving is computed as before.

Shape legend: N = seeds, E = evaluations of the rival's curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

from ninokit.benchmarks.crossings import Crossing, lasting_crossing
from ninokit.errors import ConfigError

__all__ = ["Curve", "Loss", "StepsSaved", "equivalent_steps", "steps_saved"]

_RESAMPLES = 2_000
_Array = npt.NDArray[np.float64]


def _nan_for_null(value: object) -> object:
    return math.nan if value is None else value


# In nats; a file has null for one that is not finite, which is read as NaN.
Loss: TypeAlias = Annotated[float, BeforeValidator(_nan_for_null)]


@dataclass(frozen=True)
class Curve:
    """The losses of some seeds along the training.

    Args:
        steps: of the evaluations, ascending. Shape (E,).
        losses: in nats, a row a seed. Shape (N, E).
    """

    steps: tuple[int, ...]
    losses: tuple[tuple[Loss, ...], ...]


@dataclass(frozen=True)
class StepsSaved:
    """What an arm saves of its rival's steps.

    Args:
        share: 1 - T / S, at most 1; negative if the rival takes fewer steps.
        low: the lower end of the interval of 95 %.
        high: the upper end.
        bound: ``"≥"`` if the rival's curve ends before it reaches the arm's loss, ``"≤"`` if it begins below it, else
            ``"="``.
        seeds: the share of each seed alone, and its bound. Shape (N,).
    """

    share: float
    low: float
    high: float
    bound: Literal["=", "≥", "≤"]
    seeds: tuple[tuple[float, str], ...]

    @property
    def is_claim(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def equivalent_steps(curve: Curve, level: float) -> Crossing:
    """After how many steps the mean curve of some seeds reaches a loss and holds it.

    Args:
        curve: at least one seed.
        level: the loss to reach; NaN or infinite is reached at the first evaluation.

    Returns:
        The step, or a bound.
    """
    return _crossing(np.array(curve.steps, dtype=np.float64), np.array(curve.losses).mean(0), level)


def steps_saved(finals: Sequence[float], steps: int, rival: Curve) -> StepsSaved:
    """What an arm saves.

    Args:
        finals: the arm's loss after ``steps`` steps, a seed each; NaN or infinite if it diverged. Shape (N,).
        steps: optimizer steps that the arm took.
        rival: of the same seeds, in the same order.

    Returns:
        The saving of the means, its interval, and the savings of the seeds.

    Raises:
        ConfigError: the seeds are not as many.

    Example:
        >>> rival = Curve((100, 200, 300, 400), ((4.0, 3.0, 2.0, 1.0), (4.0, 3.0, 2.0, 1.0)))
        >>> saved = steps_saved([2.0, 2.0], 200, rival)
        >>> round(saved.share, 3), saved.bound
        (0.333, '=')
    """
    if len(finals) != len(rival.losses) or not finals:
        raise ConfigError(f"savings: expected as many seeds of both; got {len(finals)} and {len(rival.losses)}")
    at, losses, ends = np.array(rival.steps, dtype=np.float64), np.array(rival.losses), np.array(finals)
    whole = _crossing(at, losses.mean(0), ends.mean())
    seeds = [_crossing(at, curve, end) for curve, end in zip(losses, ends, strict=True)]
    low, high = np.quantile(_resampled(at, losses, ends, steps), [0.025, 0.975])
    return StepsSaved(
        _share(whole, steps),
        float(low),
        float(high),
        whole.bound,
        tuple((_share(seed, steps), seed.bound) for seed in seeds),
    )


def _resampled(at: _Array, losses: _Array, ends: _Array, steps: int) -> list[float]:
    drawn = np.random.default_rng(0).integers(len(ends), size=(_RESAMPLES, len(ends)))
    return [_share(_crossing(at, losses[which].mean(0), ends[which].mean()), steps) for which in drawn]


def _crossing(at: _Array, losses: _Array, level: float) -> Crossing:
    if not np.isfinite(level):
        return Crossing(float(at[0]), "≤")
    return lasting_crossing(at, losses, float(level))


def _share(crossing: Crossing, steps: int) -> float:
    return 1 - steps / crossing.step
