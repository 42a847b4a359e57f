"""The pictures of an evaluation: what each arm saves, and how the losses fall."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ninokit.benchmarks.evaluation.report import format_saved
from ninokit.benchmarks.evaluation.results import REFERENCE, ArmResult, Evaluation, TaskResult
from ninokit.benchmarks.evaluation.savings import equivalent_steps
from ninokit.benchmarks.plot import COLOURS, new_figure

__all__ = ["plot_savings", "plot_task"]

_Array = npt.NDArray[np.float64]
_LOWEST = -1.0  # savings below are drawn there
_LINES = ("-", "--", ":")  # the next, when all colours are taken
_MARKERS = {"=": "o", "≥": "^", "≤": "v"}


def plot_savings(evaluation: Evaluation, path: Path) -> None:
    """Draw what each arm saves against the best arm without nowcasting: the seeds, their mean and its interval.

    Args:
        evaluation: of at least one task.
        path: the PNG file; its folder must exist.

    Raises:
        DependencyError: matplotlib is missing.
    """
    tasks, names = evaluation.tasks, evaluation.arms
    figure = new_figure(figsize=(10, 1.2 + sum(0.6 + 0.32 * len(task.arms) for task in tasks)))
    figure.suptitle("Steps saved against the best arm without nowcasting")
    heights = [len(task.arms) + 1 for task in tasks]
    panels = figure.subplots(len(tasks), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    colours = dict(zip(names, cycle(COLOURS), strict=False))
    for panel, task in zip(panels, tasks, strict=True):
        arms = [arm for arm in task.arms if arm.name != task.rival]
        panel.axvline(0, color="0.35", linewidth=1)
        for row, arm in enumerate(arms):
            _draw_saving(panel, row, task, arm, colours[arm.name])
        panel.set_yticks(range(len(arms)), [arm.name for arm in arms])
        panel.set_ylim(len(arms) - 0.4, -0.6)
        panel.set_title(f"{task.task}, against {task.rival}", fontsize="medium", loc="left")
        panel.grid(axis="x", alpha=0.25)
    panels[-1].set_xlabel("steps saved (%); small: a seed, bar: interval of 95 % of the mean; ▲ at least, ▼ at most")
    figure.savefig(path, format="png")


def _draw_saving(panel: Any, row: int, task: TaskResult, arm: ArmResult, colour: str) -> None:
    saved = task.saved(arm.name, task.rival)
    shares = [100 * max(share, _LOWEST) for share, _ in saved.seeds]
    spread = row + 0.25 * np.linspace(-1, 1, len(shares)) if len(shares) > 1 else [row]
    for share, (_, bound), height in zip(shares, saved.seeds, spread, strict=True):
        panel.plot([share], [height], _MARKERS[bound], color=colour, markersize=4, alpha=0.45)
    low, high, mean = (100 * max(share, _LOWEST) for share in (saved.low, saved.high, saved.share))
    panel.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
    panel.plot([mean], [row], _MARKERS[saved.bound], color=colour, markersize=9, markeredgecolor="white")
    panel.annotate(format_saved(saved), (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize="small")


def plot_task(task: TaskResult, path: Path) -> None:
    """Draw the mean loss of each arm along the training.

    Each is at the averaged weights, unless the trained ones validated better. A band is the standard error over the
    seeds, of the differences from AdamW, which share seeds. The level is the loss of AdamW after all steps; marks on it
    show where each arm stays below it.

    Args:
        task: what was found.
        path: the PNG file; its folder must exist.

    Raises:
        DependencyError: matplotlib is missing.
    """
    figure = new_figure(figsize=(10, 6.5))
    panel = figure.subplots()
    reference = task.arm(REFERENCE)
    level = float(np.mean(reference.losses[task.steps]))
    if np.isfinite(level):
        _draw_level(panel, task, level)
    nowcasters = [arm for arm in task.arms if arm.nowcasts]
    for arm, (line, colour) in zip(task.arms, cycle(product(_LINES, COLOURS)), strict=False):
        _draw_curve(panel, task, arm, colour, line, level)
        if arm.nowcasts:
            height = 0.015 + 0.025 * nowcasters.index(arm)
            panel.plot(
                arm.jumps,
                [height] * len(arm.jumps),
                "|",
                color=colour,
                markersize=9,
                transform=panel.get_xaxis_transform(),
            )
    _set_axes(panel, task, level)
    jumps = "; bars at the bottom are jumps" if nowcasters else ""
    of = f"the mean of {len(task.seeds)} seeds" if len(task.seeds) > 1 else "one seed"
    panel.set_title(f"{task.task}: test loss, {of}{jumps}")
    panel.legend(frameon=False, fontsize="small", loc="upper right")
    figure.savefig(path, format="png")


def _draw_level(panel: Any, task: TaskResult, level: float) -> None:
    panel.axhline(level, color="0.35", linewidth=0.8)
    panel.annotate(
        f"{REFERENCE} after {task.steps} steps: {level:.4f}",
        (0.01, level),
        xycoords=("axes fraction", "data"),
        va="bottom",
        fontsize="small",
        color="0.25",
    )


def _draw_curve(panel: Any, task: TaskResult, arm: ArmResult, colour: str, line: str, level: float) -> None:
    steps, losses = _within(arm, task.steps)
    mean, error = losses.mean(0), _standard_error(task, arm, losses)
    weights = " (trained weights)" if arm.tuned.read_out == "raw" else ""
    saved = "" if arm.name == REFERENCE else f"  saves {format_saved(task.saved(arm.name, REFERENCE))}"
    # Few points are trainings of their own, which nothing lies between.
    point = "." if len(steps) <= len(task.budgets) else ""
    panel.plot(steps, mean, line, marker=point, color=colour, linewidth=1.8, label=f"{arm.name}{weights}{saved}")
    if error is not None:
        panel.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    crossing = equivalent_steps(arm.curve, level)
    if crossing.bound == "=" and crossing.step <= task.steps:
        panel.plot([crossing.step], [level], "o", color=colour, markersize=7, markeredgecolor="white")


def _within(arm: ArmResult, last: int) -> tuple[_Array, _Array]:
    """A curve up to the task's steps; a rival's goes on."""
    steps = np.array(arm.curve.steps, dtype=np.float64)
    return steps[steps <= last], np.array(arm.curve.losses)[:, steps <= last]


def _standard_error(task: TaskResult, arm: ArmResult, losses: _Array) -> _Array | None:
    """Of the differences from AdamW's, seed by seed; None where these can't be taken."""
    _, reference = _within(task.arm(REFERENCE), task.steps)
    if len(losses) < 2 or losses.shape != reference.shape or arm.name == REFERENCE:
        return None
    spread: _Array = (losses - reference).std(0, ddof=1) / np.sqrt(len(losses))
    return spread


def _set_axes(panel: Any, task: TaskResult, level: float) -> None:
    """From a tenth of the training on: the end matters. What diverged does not count."""
    means = [_within(arm, task.steps) for arm in task.arms]
    late = _finite([losses.mean(0)[steps >= task.steps // 10] for steps, losses in means])
    ends = _finite([np.array([level]), *(losses.mean(0)[-1:] for _, losses in means)])
    if len(ends):
        middle = level if np.isfinite(level) else ends.min()
        start = min(late.max(), middle + 4 * max(np.ptp(ends), 0.05 * middle))
        room = 0.05 * (start - ends.min())
        panel.set_ylim(ends.min() - 3 * room, start + room)
    panel.set_xlim(0, task.steps * 1.01)
    panel.set_xlabel("optimizer steps")
    panel.set_ylabel("test loss (nats)")
    panel.grid(alpha=0.25)


def _finite(parts: Sequence[_Array]) -> _Array:
    values = np.concatenate(parts)
    return values[np.isfinite(values)]
