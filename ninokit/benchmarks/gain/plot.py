"""The picture of the steps gained: a panel a learning rate, without and with earlier jumps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from ninokit.benchmarks.gain.plan import Inputs
from ninokit.benchmarks.gain.table import GainTable, MeanGain, describe_kind
from ninokit.benchmarks.plot import COLOURS, new_figure

__all__ = ["plot_gain"]

_LINES = {"states": "-", "means": "--"}
# A mean with bounds in it is an arrow to where the true one lies.
_MARKERS = {"=": "o", "≥": "^", "≤": "v", "?": "x"}

# Losses down to this are shown, or as large as the gains; lines that lose more leave the panel.
_DEPTH = 150.0


def plot_gain(table: GainTable, path: Path) -> None:
    """Draw the means with their 95 % intervals into a picture file.

    Args:
        table: what was measured.
        path: the PNG file; its folder must exist.

    Raises:
        DependencyError: matplotlib is missing.
    """
    rates = list(dict.fromkeys(rate for rate, _ in table.kinds))
    earlier = list(dict.fromkeys(kind for _, kind in table.kinds))
    figure = new_figure(figsize=(1.5 + 5 * len(earlier), 1.5 + 3.4 * len(rates)))
    figure.suptitle(f"{table.name}: steps gained by a jump, {table.recovery} steps after it")
    panels = figure.subplots(len(rates), len(earlier), squeeze=False, sharex=True, sharey="row")
    for row, rate in zip(panels, rates, strict=True):
        for panel, kind in zip(row, earlier, strict=True):
            _draw(panel, table, rate, kind)
        row[0].set_ylabel("steps gained (mean, 95 % interval)")
        # What loses most shall not flatten what gains.
        lowest, highest = row[0].get_ylim()
        row[0].set_ylim(bottom=max(lowest, -max(highest, _DEPTH)))
    for panel in panels[-1]:
        panel.set_xlabel("horizon (states)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, format="png")


def _draw(panel: Any, table: GainTable, rate: float, earlier: bool) -> None:
    panel.set_title(describe_kind(rate, earlier), fontsize="medium")
    panel.axhline(0, color="0.35", linewidth=1)
    noise = table.no_jump(rate, earlier)
    if noise is not None:
        panel.axhspan(noise.low, noise.high, color="0.5", alpha=0.25, linewidth=0, label="no jump")
        panel.axhline(noise.mean, color="0.5", linewidth=1)
    names = list(dict.fromkeys(name for name, _ in table.methods))
    colours = dict(zip(names, cycle(COLOURS), strict=False))
    for name, inputs in table.methods:
        _draw_line(panel, _means(table, rate, earlier, name, inputs), inputs, f"{name}, {inputs}", colours[name])
    panel.set_xscale("log")
    panel.set_xticks(table.horizons, [str(horizon) for horizon in table.horizons])
    panel.set_xticks([], minor=True)
    panel.grid(alpha=0.25)


def _means(table: GainTable, rate: float, earlier: bool, name: str, inputs: Inputs) -> list[tuple[int, MeanGain]]:
    found = (
        (horizon, table.mean(rate=rate, earlier=earlier, nowcaster=name, inputs=inputs, horizon=horizon))
        for horizon in sorted(table.horizons)
    )
    return [(horizon, mean) for horizon, mean in found if mean is not None]


def _draw_line(panel: Any, means: Sequence[tuple[int, MeanGain]], inputs: Inputs, label: str, colour: str) -> None:
    horizons = [horizon for horizon, _ in means]
    panel.plot(horizons, [mean.mean for _, mean in means], _LINES[inputs], color=colour, label=label)
    low, high = ([getattr(mean, end) for _, mean in means] for end in ("low", "high"))
    panel.fill_between(horizons, low, high, color=colour, alpha=0.12, linewidth=0)
    for horizon, mean in means:
        panel.plot([horizon], [mean.mean], _MARKERS[mean.bound], color=colour, markersize=5)
