"""Training runs as a picture: loss and score against steps and against seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ninokit._optional import require
from ninokit.benchmarks.metric import Better
from ninokit.benchmarks.report import Results
from ninokit.benchmarks.training import BASELINE, NOWCASTING, EvalPoint, RunRecord

# Those of Okabe and Ito that are seen on white, which colour-blind readers tell apart; the first is the baseline's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
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
    config = results.config
    plot_runs(
        {method: [run for run in results.runs if run.method == method] for method in (BASELINE, NOWCASTING)},
        path,
        title=f"{config['task']}: AdamW with and without nowcasting by {config['nowcaster']}",
        metric=config["metric"],
        target=config["target"],
        better=results.better,
    )


def plot_runs(
    methods: Mapping[str, Sequence[RunRecord]], path: Path, *, title: str, metric: str, target: float, better: Better
) -> None:
    """Draw the runs of some methods into a picture file, in the way of `plot_results`.

    Args:
        methods: the runs of each by its label, the baseline's first; at least one run in all.
        path: the PNG file; its folder must exist.
        title: of the picture.
        metric: the name of the score.
        target: score to reach.
        better: which scores reach it.

    Raises:
        DependencyError: matplotlib is missing.
    """
    figure = new_figure(figsize=(12, 8))
    figure.suptitle(title)
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    _draw_column(panels[:, 0], methods, lambda point: float(point.step), "optimizer steps")
    _draw_column(panels[:, 1], methods, lambda point: point.seconds, "training seconds")
    for score in panels[1]:
        _show_learnt_scores(score, [run for runs in methods.values() for run in runs], target, better)
        score.axhline(target, color="0.35", linestyle="--", linewidth=1, label=f"target {target:g}")
    panels[0, 0].set_ylabel("training loss (mean since last evaluation)")
    panels[1, 0].set_ylabel(metric)
    handles, labels = _legend_entries(panels)
    columns = 6 if len(labels) <= 5 else 4  # as many as fit side by side
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, format="png")


def new_figure(figsize: tuple[float, float]) -> Any:
    """An empty figure that is saved as PNG on any machine, whatever backend the user has chosen.

    Args:
        figsize: width and height in inches.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DependencyError: matplotlib is missing.
    """
    figure = require("matplotlib.figure", _PURPOSE).Figure(figsize=figsize, dpi=120, layout="constrained")
    require("matplotlib.backends.backend_agg", _PURPOSE).FigureCanvasAgg(figure)
    return figure


def _draw_column(panels: Any, methods: Mapping[str, Sequence[RunRecord]], x: _Axis, x_label: str) -> None:
    loss, score = panels
    loss.set_yscale("log")
    for labels in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        labels(require("matplotlib.ticker", _PURPOSE).FuncFormatter(_plain_label))
    nowcasters = [method for method, runs in methods.items() if any(run.events for run in runs)]
    for (method, runs), colour in zip(methods.items(), cycle(COLOURS), strict=False):
        _draw_curves(loss, runs, method, colour, x, lambda point: point.train_loss)
        _draw_curves(score, runs, method, colour, x, lambda point: point.score)
        if method in nowcasters:
            for panel in panels:
                _draw_nowcasts(panel, runs, colour, 0.02 + 0.03 * nowcasters.index(method), x)
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.margins(x=0.02)
    score.set_xlabel(x_label)
    loss.set_title(f"against {x_label}", fontsize="medium")


def _plain_label(value: float, position: int) -> str:
    """0.05 rather than a power of ten, at 1, 2 and 5 only, so that labels do not touch."""
    leading = round(value / 10.0 ** math.floor(math.log10(value)), 6)
    return f"{value:g}" if leading in {1, 2, 5} else ""


def _draw_curves(panel: Any, runs: Sequence[RunRecord], method: str, colour: str, x: _Axis, y: _Axis) -> None:
    curves = [(_values(run, x), _values(run, y)) for run in runs]
    several = len(curves) > 1
    for xs, ys in curves:
        style = {"linewidth": 0.8, "alpha": 0.4} if several else {"linewidth": 1.6, "label": method}
        panel.plot(xs, ys, color=colour, **style)
    if several:
        common = min(len(xs) for xs, _ in curves)  # runs that stop at the target differ in length
        xs, ys = (np.median([curve[part][:common] for curve in curves], axis=0) for part in (0, 1))
        label = f"{method} (median of {len(curves)} seeds)"
        panel.plot(xs, ys, color=colour, linewidth=2.2, label=label)


def _values(run: RunRecord, of: _Axis) -> _Array:
    return np.array([of(point) for point in run.points], dtype=np.float64)


def _draw_nowcasts(panel: Any, runs: Sequence[RunRecord], colour: str, height: float, x: _Axis) -> None:
    marks: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        steps = _values(run, lambda point: float(point.step))
        for event in run.events:
            marks[event.accepted].append(float(np.interp(event.step, steps, _values(run, x))))
    edge = panel.get_xaxis_transform()
    for accepted, style in (
        (True, {"marker": "|", "markersize": 11, "color": colour, "label": "nowcast accepted"}),
        (False, {"marker": "x", "markersize": 5, "color": "black", "label": "nowcast refused"}),
    ):
        if marks[accepted]:
            panel.plot(marks[accepted], [height] * len(marks[accepted]), linestyle="", transform=edge, **style)


def _show_learnt_scores(panel: Any, runs: Sequence[RunRecord], target: float, better: Better) -> None:
    """Start the axis where the runs are after a tenth of their evaluations: the end matters."""
    early = better.worst([target, *_finite(run.points[len(run.points) // 10] for run in runs)])
    best = better.best([target, *_finite(point for run in runs for point in run.points)])
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
