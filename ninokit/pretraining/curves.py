"""How a meta-training went: as tables for machines, and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ninokit._optional import require
from ninokit.benchmarks.report import write_text
from ninokit.pretraining.validation import LINEFIT, TRAINED, UNCHANGED, Scores

__all__ = ["Point", "plot_curves", "write_curves"]

_PURPOSE = "the picture of a meta-training"
# Blue, grey and vermilion, which colour-blind readers tell apart.
_COLOURS = {TRAINED: "#0072B2", UNCHANGED: "0.45", LINEFIT: "#D55E00"}


@dataclass(frozen=True)
class Point:
    """The state of a meta-training when it was validated.

    Args:
        step: steps done.
        seconds: that they took, validations included.
        learning_rate: of the next step.
        train_l1: mean over the steps since the last point; NaN if all were skipped.
        skipped: steps skipped so far.
        scores: held-out part → what predicts → scores.
    """

    step: int
    seconds: float
    learning_rate: float
    train_l1: float
    skipped: int
    scores: Mapping[str, Mapping[str, Scores]]

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Point:
        """The inverse of `to_plain`."""
        scores = {
            part: {method: Scores(found["mean"], tuple(found["by_horizon"])) for method, found in methods.items()}
            for part, methods in plain["scores"].items()
        }
        return cls(**{**plain, "scores": scores})


def write_curves(points: Sequence[Point], folder: Path) -> None:
    """Write ``curves.csv``, a row a validation, ``horizons.csv``, a row a horizon at the last one, and ``curves.png``.

    Where nothing is held out there is nothing but the first.

    Args:
        points: at least one.
        folder: where to; files that are there are replaced.

    Raises:
        DependencyError: if matplotlib is missing.
    """
    write_text(folder / "curves.csv", _table(_row(point) for point in points))
    if points[-1].scores:
        write_text(folder / "horizons.csv", _table(_horizon_rows(points[-1])))
        plot_curves(points, folder / "curves.png")


def _row(point: Point) -> dict[str, Any]:
    columns = {name: getattr(point, name) for name in ("step", "seconds", "learning_rate", "train_l1", "skipped")}
    return columns | {
        f"{part}: {method}": scores.mean for part, methods in point.scores.items() for method, scores in methods.items()
    }


def _horizon_rows(point: Point) -> Iterable[dict[str, Any]]:
    columns = {
        f"{part}: {method}": scores.by_horizon
        for part, methods in point.scores.items()
        for method, scores in methods.items()
    }
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        yield {"horizon": number, **dict(zip(columns, values, strict=True))}


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    first, *others = rows
    writer = csv.DictWriter(text, list(first), lineterminator="\n")
    writer.writeheader()
    for row in (first, *others):
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()


def plot_curves(points: Sequence[Point], path: Path) -> None:
    """Draw the validations against the steps, and the last one against the horizon.

    Args:
        points: at least one, with scores.
        path: the PNG file; its folder must exist.

    Raises:
        DependencyError: if matplotlib is missing.
    """
    parts = points[-1].scores
    figure = require("matplotlib.figure", _PURPOSE).Figure(figsize=(12, 4 * len(parts)), dpi=120, layout="constrained")
    # Writes PNG on any machine, whatever backend the user has chosen.
    require("matplotlib.backends.backend_agg", _PURPOSE).FigureCanvasAgg(figure)
    panels = figure.subplots(len(parts), 2, squeeze=False)
    for (against_steps, against_horizon), part in zip(panels, parts, strict=True):
        _draw_steps(against_steps, points, part)
        _draw_horizons(against_horizon, parts[part], part)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, format="png")


def _draw_steps(panel: Any, points: Sequence[Point], part: str) -> None:
    steps = [point.step for point in points]
    panel.plot(steps, [point.train_l1 for point in points], color=_COLOURS[TRAINED], alpha=0.35, label="training")
    for method, colour in _COLOURS.items():
        style = {"linewidth": 2, "marker": "."} if method == TRAINED else {"linestyle": "--"}
        panel.plot(steps, [point.scores[part][method].mean for point in points], color=colour, label=method, **style)
    _label(panel, f"{part}, mean over the horizon", "meta-training steps")


def _draw_horizons(panel: Any, methods: Mapping[str, Scores], part: str) -> None:
    for method, colour in _COLOURS.items():
        values = np.array(methods[method].by_horizon)
        panel.plot(np.arange(1, len(values) + 1), values, color=colour, linestyle="-" if method == TRAINED else "--")
    # Linear extrapolation leaves the picture where it is hopeless.
    drawn = np.array([methods[method].by_horizon for method in (TRAINED, UNCHANGED)])
    top = np.max(drawn, where=np.isfinite(drawn), initial=0)
    panel.set_ylim(0, 1.3 * top if top > 0 else 1)
    _label(panel, f"{part}, at the last validation", "horizon (states ahead)")


def _label(panel: Any, title: str, x_label: str) -> None:
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel(x_label)
    panel.set_ylabel("L1 (scaled states)")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25)
