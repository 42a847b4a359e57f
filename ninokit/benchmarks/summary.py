"""Steps and seconds to the target, and what nowcasting saves of them, unreached targets included."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ninokit.benchmarks.metric import Better
from ninokit.benchmarks.training import BASELINE, NOWCASTING, RunRecord

_NOTHING = "–"
STEPS = "{:g}"
SECONDS = "{:.1f}"
# A bound is rounded to the side on which it still holds.
_ROUNDING: dict[str, Callable[[float], int]] = {"=": round, "≥": math.floor, "≤": math.ceil}


@dataclass(frozen=True)
class Cost:
    """What it took to reach the target, or how much did not suffice.

    Args:
        value: steps or seconds; if not reached, the true cost is above it.
        reached: whether the target was reached.
    """

    value: float
    reached: bool


@dataclass(frozen=True)
class Saving:
    """The share of the baseline's cost that nowcasting saved.

    Args:
        share: 1 - nowcasting / baseline; negative if nowcasting took longer.
        bound: ``"="``, or ``"≥"`` if only the baseline missed the target, or ``"≤"`` if only nowcasting did.
    """

    share: float
    bound: str


@dataclass(frozen=True)
class Row:
    """One seed of the summary, or the median over the seeds.

    Args:
        label: the seed, or ``"median"``.
        baseline_steps: optimizer steps of the baseline, or None if it did not run (yet).
        nowcasting_steps: the same with nowcasting.
        steps_saved: None unless at least one of the two reached the target.
        baseline_seconds: training seconds of the baseline.
        nowcasting_seconds: training seconds with nowcasting, the nowcasts included.
        seconds_saved: as ``steps_saved``.
    """

    label: str
    baseline_steps: Cost | None
    nowcasting_steps: Cost | None
    steps_saved: Saving | None
    baseline_seconds: Cost | None
    nowcasting_seconds: Cost | None
    seconds_saved: Saving | None


def summarize(runs: Sequence[RunRecord], target: float, better: Better) -> tuple[Row, ...]:
    """Compare the runs, seed by seed and by their median.

    A run that never reached the target counts as slower than every run that did.

    Args:
        runs: finished runs, at most one for each method and seed.
        target: score to reach.
        better: which scores reach it.

    Returns:
        A row a seed, in the order of the runs; then a row for the median if every seed has both its runs and
        there are at least two seeds.
    """
    records = {(run.method, run.seed): run for run in runs}
    seeds = list(dict.fromkeys(run.seed for run in runs))
    costs = {key: costs_to_target(run, target, better) for key, run in records.items()}
    unknown = (None, None)
    rows = [
        compare_costs(str(seed), *(costs.get((method, seed), unknown) for method in (BASELINE, NOWCASTING)))
        for seed in seeds
    ]
    return with_median(rows) if len(records) == 2 * len(seeds) else tuple(rows)


def with_median(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of the seeds, and that of their median.

    A run that never reached the target counts as slower than every run that did. The saving is the median of the seeds'
    savings, of runs from one initialisation each, rather than what the median costs would save.

    Args:
        rows: a row a seed, with the costs of both runs.

    Returns:
        The rows, and one more if there are at least two.
    """
    return (*rows, _median_row(rows)) if len(rows) > 1 else tuple(rows)


def costs_to_target(run: RunRecord, target: float, better: Better) -> tuple[Cost, Cost]:
    """What a run took to its first evaluation that reaches the target.

    Args:
        run: finished.
        target: score to reach.
        better: which scores reach it.

    Returns:
        Steps and seconds.
    """
    for point in run.points:
        if better.reaches(point.score, target):
            return Cost(point.step, True), Cost(point.seconds, True)
    last = run.points[-1]
    return Cost(last.step, False), Cost(last.seconds, False)


def compare_costs(
    label: str, baseline: tuple[Cost | None, Cost | None], nowcasting: tuple[Cost | None, Cost | None]
) -> Row:
    """A row of the summary.

    Args:
        label: the seed, or ``"median"``.
        baseline: steps and seconds without nowcasting; None if it did not run (yet).
        nowcasting: the same with it.

    Returns:
        The costs and what was saved of them.
    """
    return Row(
        label=label,
        baseline_steps=baseline[0],
        nowcasting_steps=nowcasting[0],
        steps_saved=_saving(baseline[0], nowcasting[0]),
        baseline_seconds=baseline[1],
        nowcasting_seconds=nowcasting[1],
        seconds_saved=_saving(baseline[1], nowcasting[1]),
    )


def _saving(baseline: Cost | None, nowcasting: Cost | None) -> Saving | None:
    if baseline is None or nowcasting is None or not (baseline.reached or nowcasting.reached):
        return None
    bound = "=" if baseline.reached and nowcasting.reached else "≤" if baseline.reached else "≥"
    return Saving((baseline.value - nowcasting.value) / baseline.value, bound)


def median_saving(savings: Sequence[Saving | None]) -> Saving | None:
    """The median of some savings, as far as it can be told.

    A saving is at most 1. One that is known by a bound, or not at all, may be anything that this leaves; so the median
    lies between the median of the least and that of the most that each can be.

    Args:
        savings: at least one; None where neither of two runs reached the target.

    Returns:
        The median, or a bound of it: the lower one if there are both; None if there is neither.

    Example:
        >>> median_saving([Saving(0.2, "="), Saving(0.3, "≥"), Saving(0.5, "=")])
        Saving(share=0.3, bound='≥')
    """
    lowest = statistics.median(-math.inf if s is None or s.bound == "≤" else s.share for s in savings)
    highest = statistics.median(1.0 if s is None or s.bound == "≥" else s.share for s in savings)
    if lowest == highest:
        return Saving(lowest, "=")
    if math.isfinite(lowest):
        return Saving(lowest, "≥")
    return Saving(highest, "≤") if highest < 1 else None


def _median_row(rows: Sequence[Row]) -> Row:
    return Row(
        label="median",
        baseline_steps=_median([row.baseline_steps for row in rows]),
        nowcasting_steps=_median([row.nowcasting_steps for row in rows]),
        steps_saved=median_saving([row.steps_saved for row in rows]),
        baseline_seconds=_median([row.baseline_seconds for row in rows]),
        nowcasting_seconds=_median([row.nowcasting_seconds for row in rows]),
        seconds_saved=median_saving([row.seconds_saved for row in rows]),
    )


def _median(costs: Sequence[Cost | None]) -> Cost:
    """The median with every unreached cost taken as infinite; if that is infinite, what it is surely above.

    Each unreached cost is above the value it stands with, so the true median is above that of the values.
    """
    known = [cost for cost in costs if cost is not None]
    median = statistics.median(cost.value if cost.reached else math.inf for cost in known)
    if math.isfinite(median):
        return Cost(median, True)
    return Cost(statistics.median(cost.value for cost in known), False)


def format_table(rows: Sequence[Row]) -> str:
    """The summary as an aligned Markdown table.

    Args:
        rows: what `summarize` returned.

    Returns:
        The table, without a newline at its end. ``>10000`` stands for a target not reached in 10000 steps,
        ``≥53 %`` for a saving of at least that much, and a dash for what can't be told.
    """
    header = ("seed", "baseline steps", "nowcasting steps", "saved", "baseline s", "nowcasting s", "saved")
    body = [
        (
            row.label,
            format_cost(row.baseline_steps, STEPS),
            format_cost(row.nowcasting_steps, STEPS),
            format_saving(row.steps_saved),
            format_cost(row.baseline_seconds, SECONDS),
            format_cost(row.nowcasting_seconds, SECONDS),
            format_saving(row.seconds_saved),
        )
        for row in rows
    ]
    return aligned_table(header, body)


def aligned_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is readable as text too.

    Args:
        header: a title a column.
        body: a cell a column in each row.

    Returns:
        The table, without a newline at its end.
    """
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rule = tuple("-" * (width - 1) + ":" for width in widths)
    lines = (
        " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (header, rule, *body)
    )
    return "\n".join(f"| {line} |" for line in lines)


def format_cost(cost: Cost | None, style: str) -> str:
    """What it took to the target.

    Args:
        cost: None if there is nothing to tell.
        style: how to write the number, `STEPS` or `SECONDS`.

    Returns:
        The number, ``>600`` where the target was not reached in 600, or a dash.
    """
    if cost is None:
        return _NOTHING
    return style.format(cost.value) if cost.reached else ">" + style.format(cost.value)


def format_saving(saving: Saving | None) -> str:
    """A saving in percent.

    Args:
        saving: None if there is nothing to tell.

    Returns:
        Such as ``38 %``, ``≥38 %`` where it is at least that much, or a dash.
    """
    if saving is None:
        return _NOTHING
    # Nine decimals take away what binary fractions add: 100 * 0.29 is a little below 29.
    percent = round(100 * saving.share, 9)
    return f"{saving.bound.strip('=')}{_ROUNDING[saving.bound](percent)} %"
