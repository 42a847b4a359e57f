"""AdamW's learning rate, chosen among a few on seeds that the evaluation does not use."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ninokit.benchmarks.evaluation.results import Trial
from ninokit.benchmarks.metric import Better

__all__ = ["candidates", "choose"]


def candidates(lr: float, factors: Sequence[float]) -> list[float]:
    """The learning rates to try.

    Args:
        lr: the task's own, which is always among them.
        factors: of it.

    Returns:
        In ascending order, to four digits.

    Example:
        >>> candidates(0.006, [0.5, 2])
        [0.003, 0.006, 0.012]
    """
    return sorted({lr, *(float(f"{lr * factor:.4g}") for factor in factors)})


def choose(trials: Sequence[Trial], better: Better) -> Trial:
    """The best learning rate.

    Args:
        trials: at least one, of the same seeds.
        better: which scores are.

    Returns:
        The trial with the fewest steps to the target, as the median of its seeds; among those that miss it, the one
        with the best score; among equals, the lowest learning rate.
    """
    sign = -1.0 if better is Better.HIGHER else 1.0

    def order(trial: Trial) -> tuple[float, float, float]:
        steps = statistics.median(run.steps if run.reached else math.inf for run in trial.runs)
        if math.isfinite(steps):
            return steps, 0.0, trial.lr
        return steps, math.inf if trial.score is None else sign * trial.score, trial.lr

    return min(trials, key=order)
