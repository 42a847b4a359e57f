"""Equal tuning of every arm: its rate first, then the one setting of its own.

Each arm gets the same grid of rates around the task's. Where the best is at an edge of the grid, the grid is widened
there. Then come the values of its option, at that rate. The score is the loss after all steps on the validation split,
at the better of the two read-outs, as the mean over seeds that no comparison uses.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ninokit.benchmarks.arms import Arm
from ninokit.benchmarks.evaluation.run import ReadOutName
from ninokit.benchmarks.evaluation.savings import Loss

__all__ = ["Setting", "Trial", "Tuned", "Tuning", "tuning"]

_WIDENINGS = 3  # at most, each by one rate


@dataclass(frozen=True)
class Setting:
    """What an arm is tried with.

    Args:
        lr: learning rate.
        option: the value of its option; None where it has none.
    """

    lr: float
    option: float | None


@dataclass(frozen=True)
class Trial:
    """A setting, and how it scored.

    Args:
        setting: what was tried.
        averaged: the mean validation loss after all steps at the averaged weights; NaN if training diverged.
        raw: the same at the trained weights.
    """

    setting: Setting
    averaged: Loss
    raw: Loss

    @property
    def read_out(self) -> ReadOutName:
        """Where this setting scores better."""
        return "raw" if _or_worst(self.raw) < _or_worst(self.averaged) else "averaged"

    @property
    def score(self) -> float:
        """The loss there; infinite if training diverged."""
        return min(_or_worst(self.averaged), _or_worst(self.raw))


@dataclass(frozen=True)
class Tuned:
    """The setting that an arm is compared with.

    Args:
        setting: the best one.
        read_out: where it scores.
        trials: all that were tried, in order.
        at_edge: whether the rate is at an edge of the grid that was widened as often as it may be.
    """

    setting: Setting
    read_out: ReadOutName
    trials: tuple[Trial, ...]
    at_edge: bool = False


# Yields settings to try, is sent their trials, and returns what was chosen.
Tuning: TypeAlias = Generator[Sequence[Setting], Sequence[Trial], Tuned]


def tuning(arm: Arm, lr: float, factors: Sequence[float]) -> Tuning:
    """Tune one arm.

    Args:
        arm: its option counts.
        lr: the task's rate.
        factors: of it, at least one; ascending or not.

    Yields:
        Settings to try; it is sent a trial for each.

    Returns:
        The best.

    Example:
        >>> from ninokit.benchmarks.arms import find_arm
        >>> work = tuning(find_arm("adamw_linear"), 0.01, [0.5, 1, 2])
        >>> [setting.lr for setting in next(work)]
        [0.005, 0.01, 0.02]
    """
    default = None if arm.option is None else arm.option.default
    trials = list((yield [Setting(rate, default) for rate in sorted({_rounded(lr * factor) for factor in factors})]))
    at_edge = False
    for _ in range(_WIDENINGS if len(trials) > 1 else 0):
        beyond = _beyond(trials)
        at_edge = beyond is not None
        if beyond is None:
            break
        trials += yield [Setting(beyond, default)]
    best = _best(trials)
    if arm.option is not None:
        others = [value for value in arm.option.values if value != default]
        trials += yield [Setting(best.setting.lr, value) for value in others]
        best = _best(trials)
    return Tuned(best.setting, best.read_out, tuple(trials), at_edge and _beyond(trials) is not None)


def _best(trials: Sequence[Trial]) -> Trial:
    """The one of the lowest loss; among equals the first."""
    return min(trials, key=lambda trial: trial.score)


def _beyond(trials: Sequence[Trial]) -> float | None:
    """The next rate beyond the edge of the grid where the best one is, twice or half of it; None within the grid."""
    rates = sorted({trial.setting.lr for trial in trials})
    best = _best(trials)
    if not math.isfinite(best.score):
        return _rounded(rates[0] / 2)
    if best.setting.lr == rates[0]:
        return _rounded(rates[0] / 2)
    return _rounded(rates[-1] * 2) if best.setting.lr == rates[-1] else None


def _rounded(rate: float) -> float:
    return float(f"{rate:.4g}")


def _or_worst(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
