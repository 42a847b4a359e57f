"""A store of trajectories as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from ninokit.graph.tables import format_table
from ninokit.pretraining.cohort import Cohort

__all__ = ["tabulate_tasks"]


def tabulate_tasks(cohorts: Sequence[Cohort]) -> str:
    """What cohorts hold, a task a row.

    Args:
        cohorts: of a store.

    Returns:
        A table: networks, those of them that diverged or are under way, a network's parameters, states in all,
        and the worst, median and best score.
    """
    by_task: dict[str, list[Cohort]] = defaultdict(list)
    for cohort in cohorts:
        by_task[cohort.description.task].append(cohort)
    header = ["task", "networks", "diverged", "under way", "parameters", "states", "scores: least", "median", "most"]
    return format_table(header, [_row(task, found) for task, found in by_task.items()])


def _row(task: str, cohorts: Sequence[Cohort]) -> list[str]:
    lengths = [length for cohort in cohorts for length in cohort.lengths]
    diverged = sum(length < cohort.recorded for cohort in cohorts for length in cohort.lengths)
    under_way = sum(len(cohort.lengths) for cohort in cohorts if not cohort.complete)
    scores = [score for cohort in cohorts for score in cohort.scores if score is not None]
    counts = [len(lengths), diverged, under_way, cohorts[0].description.num_parameters, sum(lengths)]
    marks = [f"{of(scores):.3f}" for of in (min, median, max)] if scores else ["–"] * 3
    return [task, *(f"{count:,}" for count in counts), *marks]
