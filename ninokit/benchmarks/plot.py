"""The picture of a comparison: loss and score against steps and against seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ninokit._optional import require
from ninokit.benchmarks.report import Results
from ninokit.benchmarks.training import BASELINE, NOWCASTING, EvalPoint, RunRecord

# Blue and vermilion of Okabe and Ito, which colour-blind readers tell apart.
_COLOURS = {BASELINE: "#0072B2", NOWCASTING: "#D55E00"}
_REFUSED = "black"
_PURPOSE = "the picture of a comparison"
_Axis = Callable[[EvalPoint], float]
_Array = npt.NDArray[np.float64]


def plot_results(results: Results, path: Path) -> None:
    """Draw a comparison into a picture file.

    Thin lines are seeds; where a method has several, a thick line is their median as long as all of them
    run. Marks at the
    lower edge are nowcasts: a stroke for an accepted one, a cross for a refused one.

    Args:
        results: of a comparison, with at least one run.
        path: the PNG file; its folder must exist.

    Raises:
        DependencyError: matplotlib is missing.
    """
    figure = require("matplotlib.figure", _PURPOSE).Figure(figsize=(12, 8), dpi=120, layout="constrained")
    # Writes PNG on any machine, whatever backend the user has chosen.
    require("matplotlib.backends.backend_agg", _PURPOSE).FigureCanvasAgg(figure)
    config = results.config
    figure.suptitle(f"{config['task']}: AdamW with and without nowcasting by {config['nowcaster']}")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    _draw_column(panels[:, 0], results, lambda point: float(point.step), "optimizer steps")
    _draw_column(panels[:, 1], results, lambda point: point.seconds, "training seconds")
    panels[0, 0].set_ylabel("training loss (mean since last evaluation)")
    panels[1, 0].set_ylabel(config["metric"])
    figure.legend(*_legend_entries(panels), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, format="png")


def _draw_column(panels: Any, results: Results, x: _Axis, x_label: str) -> None:
    loss, score = panels
    loss.set_yscale("log")
    for labels in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        labels(require("matplotlib.ticker", _PURPOSE).FuncFormatter(_plain_label))
    for method in (BASELINE, NOWCASTING):
        runs = [run for run in results.runs if run.method == method]
        _draw_curves(loss, runs, method, x, lambda point: point.train_loss)
        _draw_curves(score, runs, method, x, lambda point: point.score)
    for panel in panels:
        _draw_nowcasts(panel, results.runs, x)
        panel.grid(alpha=0.25)
        panel.margins(x=0.02)
    _show_learnt_scores(score, results)
    score.axhline(results.config["target"], color="0.35", linestyle="--", linewidth=1, label=_target_label(results))
    score.set_xlabel(x_label)
    loss.set_title(f"against {x_label}", fontsize="medium")


def _target_label(results: Results) -> str:
    return f"target {results.config['target']:g}"


def _plain_label(value: float, position: int) -> str:
    """0.05 rather than a power of ten, at 1, 2 and 5 only, so that labels do not touch."""
    leading = round(value / 10.0 ** math.floor(math.log10(value)), 6)
    return f"{value:g}" if leading in {1, 2, 5} else ""


def _draw_curves(panel: Any, runs: Sequence[RunRecord], method: str, x: _Axis, y: _Axis) -> None:
    curves = [(_values(run, x), _values(run, y)) for run in runs]
    several = len(curves) > 1
    for xs, ys in curves:
        style = {"linewidth": 0.8, "alpha": 0.4} if several else {"linewidth": 1.6, "label": method}
        panel.plot(xs, ys, color=_COLOURS[method], **style)
    if several:
        common = min(len(xs) for xs, _ in curves)  # runs that stop at the target differ in length
        xs, ys = (np.median([curve[part][:common] for curve in curves], axis=0) for part in (0, 1))
        label = f"{method} (median of {len(curves)} seeds)"
        panel.plot(xs, ys, color=_COLOURS[method], linewidth=2.2, label=label)


def _values(run: RunRecord, of: _Axis) -> _Array:
    return np.array([of(point) for point in run.points], dtype=np.float64)


def _draw_nowcasts(panel: Any, runs: Sequence[RunRecord], x: _Axis) -> None:
    marks: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        steps = _values(run, lambda point: float(point.step))
        for event in run.events:
            marks[event.accepted].append(float(np.interp(event.step, steps, _values(run, x))))
    edge = panel.get_xaxis_transform()
    for accepted, style in (
        (True, {"marker": "|", "markersize": 11, "color": _COLOURS[NOWCASTING], "label": "nowcast accepted"}),
        (False, {"marker": "x", "markersize": 5, "color": _REFUSED, "label": "nowcast refused"}),
    ):
        if marks[accepted]:
            panel.plot(marks[accepted], [0.02] * len(marks[accepted]), linestyle="", transform=edge, **style)


def _show_learnt_scores(panel: Any, results: Results) -> None:
    """Start the axis where the runs are after a tenth of their evaluations: the end matters."""
    better, target = results.better, float(results.config["target"])
    early = better.worst([target, *_finite(run.points[len(run.points) // 10] for run in results.runs)])
    best = better.best([target, *_finite(point for run in results.runs for point in run.points)])
    room = max(0.05 * abs(best - early), 0.005)
    panel.set_ylim(min(early, best) - room, max(early, best) + room)


def _finite(points: Iterable[EvalPoint]) -> Iterator[float]:
    return (point.score for point in points if math.isfinite(point.score))


def _legend_entries(panels: Any) -> tuple[list[Any], list[str]]:
    """One entry for everything labelled, whichever panel it is in."""
    entries: dict[str, Any] = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)
