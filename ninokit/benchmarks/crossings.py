"""Where a curve of losses reaches a level for good.

Shape legend: E = evaluations of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ninokit.errors import ConfigError

__all__ = ["Crossing", "lasting_crossing"]


@dataclass(frozen=True)
class Crossing:
    """The step at which a curve reaches a level.

    Args:
        step: in optimizer steps; between two evaluations it is interpolated.
        bound: ``=``, or ``≥`` where the curve ends before it reaches the level, or ``≤`` where it begins below it.
    """

    step: float
    bound: Literal["=", "≥", "≤"]


def lasting_crossing(
    steps: Sequence[float] | npt.NDArray[np.float64],
    losses: Sequence[float] | npt.NDArray[np.float64],
    level: float,
    hold: int = 5,
) -> Crossing:
    """The first evaluation at or below a level whose neighbours to come hold it, and where the curve came to it.

    It counts if the mean of it and of the next ``hold - 1`` evaluations is at or below the level too; at the end of the
    curve, the mean of those that are left. The step is interpolated between it and the evaluation before, if that is
    above the level.

    Args:
        steps: of the evaluations, ascending. Shape (E,).
        losses: lower is better; a NaN or an infinity never holds a level. Shape (E,).
        level: the loss to reach; not NaN.
        hold: how many evaluations have to hold it, at least 1.

    Returns:
        The crossing: a bound if the curve never reaches the level, or begins below it.

    Raises:
        ConfigError: the curve is empty, its steps do not ascend or are not as many as its losses, the level is NaN, or
            ``hold`` is below 1.

    Example:
        >>> lasting_crossing([0, 100, 200, 300], [4.0, 3.0, 1.0, 1.0], level=2.0)
        Crossing(step=150.0, bound='=')
        >>> lasting_crossing([0, 100, 200, 300], [4.0, 3.0, 1.0, 1.0], level=0.5)
        Crossing(step=300.0, bound='≥')
    """
    at, values = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    _check(at, values, level, hold)
    for index in np.flatnonzero(values <= level):
        if values[index : index + hold].mean() <= level:
            return _crossing(at, values, level, int(index))
    return Crossing(float(at[-1]), "≥")


def _check(steps: npt.NDArray[np.float64], losses: npt.NDArray[np.float64], level: float, hold: int) -> None:
    if steps.ndim != 1 or steps.shape != losses.shape or len(steps) == 0:
        raise ConfigError(
            "crossing: expected one loss a step, of at least one evaluation; got steps of shape "
            f"{steps.shape} and losses of shape {losses.shape}"
        )
    if not (np.diff(steps) > 0).all():
        raise ConfigError(f"crossing: expected ascending steps; got {steps.tolist()!r:.60}. Sort the evaluations")
    if np.isnan(level):
        raise ConfigError("crossing: expected a number as the level to reach; got NaN. Leave this level out")
    if hold < 1:
        raise ConfigError(f"crossing: hold must be at least 1; got {hold}")


def _crossing(steps: npt.NDArray[np.float64], losses: npt.NDArray[np.float64], level: float, index: int) -> Crossing:
    if index == 0:
        return Crossing(float(steps[0]), "=" if losses[0] == level else "≤")
    before, after = losses[index - 1], losses[index]
    if not level < before < np.inf:  # a dip that did not last, or no number: there is no line to follow
        return Crossing(float(steps[index]), "=")
    share = (before - level) / (before - after)
    return Crossing(float(steps[index - 1] + share * (steps[index] - steps[index - 1])), "=")
