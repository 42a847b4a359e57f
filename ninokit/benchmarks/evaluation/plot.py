"""The picture of an evaluation: what each method saved on each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from ninokit.benchmarks.evaluation.contenders import ADAMW
from ninokit.benchmarks.evaluation.results import Evaluation, TaskResult
from ninokit.benchmarks.plot import COLOURS, new_figure
from ninokit.benchmarks.summary import Row, Saving

__all__ = ["plot_savings"]

_SavingOf = Callable[[Row], Saving | None]
# A bound is an arrow to where the true saving lies.
_MARKERS = {"=": "o", "≥": "^", "≤": "v"}
_LOWEST = -1.0
_LEGEND_COLUMNS = 3  # of names as long as the zoo's, as many as fit side by side
_READING = """small: a seed, large: the median; ▲ at least, ▼ at most that much
✕ neither reached the target; what is below -100 % is drawn there"""


def plot_savings(evaluation: Evaluation, path: Path) -> None:
    """Draw the savings against AdamW at each task's own learning rate into a picture file.

    Args:
        evaluation: of at least one task.
        path: the PNG file; its folder must exist.

    Raises:
        DependencyError: matplotlib is missing.
    """
    tasks = evaluation.tasks
    names = [method.name for method in tasks[0].methods if method.name != ADAMW]
    figure = new_figure(figsize=(6 + 0.4 * len(tasks) * len(names), 8))
    figure.suptitle(f"{evaluation.nowcaster}: saved against AdamW\n{_READING}", fontsize="medium")
    steps, seconds = figure.subplots(2, 1, sharex=True)
    _draw(steps, tasks, names, lambda row: row.steps_saved)
    _draw(seconds, tasks, names, lambda row: row.seconds_saved)
    steps.set_ylabel("steps saved (%)")
    seconds.set_ylabel("seconds saved (%)")
    seconds.set_xticks(range(len(tasks)), [task.task for task in tasks])
    figure.legend(*steps.get_legend_handles_labels(), loc="outside lower center", ncols=_LEGEND_COLUMNS, frameon=False)
    figure.savefig(path, format="png")


def _draw(panel: Any, tasks: Sequence[TaskResult], names: Sequence[str], saving: _SavingOf) -> None:
    panel.axhline(0, color="0.35", linewidth=1)
    # The first colour is the baseline's.
    for (place, name), colour in zip(enumerate(names), cycle(COLOURS[1:]), strict=False):
        panel.plot([], [], "o", color=colour, label=name)
        for index, task in enumerate(tasks):
            x = index + 0.8 * ((place + 0.5) / len(names) - 0.5)
            rows = task.rows(ADAMW, name)
            for row in rows[: len(task.seeds)]:
                _mark(panel, x, saving(row), color=colour, markersize=5, alpha=0.5)
            _mark(panel, x, saving(rows[-1]), color=colour, markersize=11)
    panel.set_xlim(-0.6, len(tasks) - 0.4)
    panel.set_ylim(min(panel.get_ylim()[0], -10), max(panel.get_ylim()[1], 10))
    panel.grid(axis="y", alpha=0.25)


def _mark(panel: Any, x: float, saving: Saving | None, **style: Any) -> None:
    if saving is None:
        panel.plot([x], [0], "x", **style)
    else:
        panel.plot([x], [100 * max(saving.share, _LOWEST)], _MARKERS[saving.bound], **style)
