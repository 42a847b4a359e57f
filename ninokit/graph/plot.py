"""A neural graph as a picture: groups of neurons joined by blocks of edges, and the adjacency of a small network."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from ninokit._optional import require
from ninokit.errors import ConfigError
from ninokit.graph.adjacency import draw_adjacency
from ninokit.graph.colours import COLOURS
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.layout import Layout, Place, Route, break_rows, lay_out
from ninokit.graph.structure import Edges, NeuralGraph
from ninokit.graph.tables import summarize

__all__ = ["draw", "plot"]

_PURPOSE = "the picture of a neural graph"
# What would make two files of one picture differ.
_METADATA = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_DASHES = (0, (3.0, 1.5))
_STYLE = {"svg.hashsalt": "ninokit", "font.family": "DejaVu Sans", "font.size": 7.0, "text.usetex": False}
_DPI = 110

_INK, _GREY, _FAINT, _PANEL, _FILL = "#222222", "#707070", "#9a9a9a", "#f3f4f6", "#fdfdfd"

# Inches. The axes' unit is an inch too, so that circles are round and labels fit.
_LANE, _ABOVE, _BELOW, _MARGIN, _GAP = 0.95, 0.66, 0.66, 0.22, 0.1
_CHARACTER, _LINE = 0.0585, 0.118  # of a label; characters in the mean
_LABEL_WIDTH, _ONE_LINE = 19, 12  # characters
_NARROW = 1.05  # column
_BEND = 0.68  # of the distance between columns: lines are steep in the middle, away from labels
_PARALLEL, _ARROW, _DOT = 0.075, 0.075, 0.035
_LEGEND_CELL, _LEGEND_LINE, _TITLE_LINE, _TITLE_SCALE, _LEAST_WIDTH = 1.45, 0.2, 0.17, 1.22, 4.5
_ADJACENCY, _ADJACENCY_LABELS, _ADJACENCY_ROOM, _ADJACENCY_NODES = 3.4, 1.35, 4.95, 400
_ASPECT, _SHORT, _COLUMNS = 1.3, 6, range(1, 31)  # what is short is not cut


def plot(graph: NeuralGraph, path: str | PathLike[str]) -> Path:
    """Draw a graph into a file.

    Circles are groups of neurons, lines the blocks of edges between them; both grow with the logarithm of what they
    hold. Blocks of one kind between the same groups are one line. Dots are biases and norms, beside what they act on.
    A network of at most 400 neurons has its adjacency beside.

    Args:
        graph: any neural graph.
        path: the file; its suffix, ``.png``, ``.svg`` or ``.pdf``, is its format.

    Returns:
        The path.

    Raises:
        ConfigError: for another suffix, or if the file can't be written.
        DependencyError: matplotlib is missing.

    Example:
        >>> import torch, ninokit
        >>> graph = ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)))
        >>> plot(graph, "network.svg")  # doctest: +SKIP
        PosixPath('network.svg')
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise ConfigError(f"plot: expected a file name that ends in .png, .svg or .pdf; got {str(path)!r}")
    figure = draw(graph)
    try:
        with require("matplotlib", _PURPOSE).rc_context(_STYLE):
            figure.savefig(path, format=suffix[1:], metadata=_METADATA[suffix])
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"plot: {path} can't be written: {reason}. Name a file in a folder of yours") from error
    return path


def draw(graph: NeuralGraph) -> Any:
    """The picture of a graph, in memory.

    Args:
        graph: any neural graph.

    Returns:
        A `matplotlib.figure.Figure`. The ``gid`` of what it shows: ``neurons:NAME`` a group, ``again:NAME`` its faint
        copy at the start of the next row, ``edges:SRC→DST:KIND`` a line.

    Raises:
        DependencyError: matplotlib is missing.
    """
    with require("matplotlib", _PURPOSE).rc_context(_STYLE):
        return _Picture(graph).draw()


class _Line(NamedTuple):
    """All blocks of a kind from one group to another."""

    src: str
    dst: str
    kind: EdgeKind
    blocks: int
    edges: int

    @property
    def gid(self) -> str:
        return f"edges:{self.src}→{self.dst}:{self.kind.name}"

    @property
    def style(self) -> dict[str, Any]:
        return {
            "edgecolor": COLOURS[self.kind],
            "facecolor": "none",
            "linewidth": 0.5 + 0.25 * math.log10(self.edges),
            "linestyle": _DASHES if self.kind.structural else "solid",
        }


def _lines(blocks: Sequence[Edges]) -> list[_Line]:
    found: dict[tuple[str, str, EdgeKind], _Line] = {}
    for block in blocks:
        key = (block.src.name, block.dst.name, block.kind)
        before = found.get(key, _Line(*key, 0, 0))
        found[key] = _Line(*key, before.blocks + 1, before.edges + block.num_edges)
    return list(found.values())


def _radius(size: int) -> float:
    return 0.05 * math.sqrt(1 + math.log2(size))  # the area grows with the logarithm


def _short_label(name: str) -> list[str]:
    """A name in one line or two: its last part, and as many of the parts before as there is room for."""
    head, dot, last = name.rpartition(".")
    if len(name) <= _ONE_LINE or not dot:
        return [_shorten(name)]
    while len(head) > _LABEL_WIDTH and "." in head:
        head = f"…{head.partition('.')[2]}"
    return [_shorten(head), _shorten(last)]


def _shorten(text: str) -> str:
    return text if len(text) <= _LABEL_WIDTH else f"…{text[1 - _LABEL_WIDTH :]}"


def _common_prefix(names: Sequence[str]) -> str:
    """The leading parts, with their dots, that all names have in common; names without dots have no say."""
    split = [name.split(".")[:-1] for name in names if "." in name]
    common: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(f"{parts[0]}.")
    return "".join(common)


@dataclass(frozen=True)
class _Row:
    """Columns that stand side by side in the picture.

    Args:
        columns: their numbers.
        first: the first one that is drawn: that before them is repeated, faint.
        left: the left end of that column, in inches, so that layers of different rows stand in line.
        base: height of lane 0, in inches from the bottom.
    """

    columns: range
    first: int
    left: float
    base: float


class _Page:
    """How the columns of a layout are cut into rows, and where its places are then, in inches from the lower left.

    Args:
        layout: of a graph.
        column: the width of a column.
    """

    def __init__(self, layout: Layout, column: float) -> None:
        self._column = column
        self._stages = layout.stages
        self._lanes: dict[int, list[float]] = {}
        for place in [*layout.places.values(), *(place for route in layout.routes for place in route.places)]:
            self._lanes.setdefault(place.column, []).append(place.lane)
        choices: dict[int, tuple[range, ...]] = {}  # of as many rows the narrowest, which are filled evenly
        for rows in (break_rows(layout.stages, limit) for limit in _COLUMNS):
            choices.setdefault(len(rows), rows)
        most = len(break_rows(layout.stages, _SHORT))
        self.rows, self.width, self.height = min(
            (self._arrange(rows) for number, rows in choices.items() if number <= most),
            key=lambda made: abs(math.log(made[1] / made[2] / _ASPECT)),
        )

    def at(self, row: _Row, place: Place) -> tuple[float, float]:
        """Where a place is in a row."""
        return row.left + (place.column - row.first + 0.5) * self._column, row.base + place.lane * _LANE

    def lanes(self, columns: Iterable[int]) -> tuple[float, float]:
        """The lowest and the highest lane of some columns."""
        lanes = [lane for column in columns for lane in self._lanes[column]]
        return min(lanes), max(lanes)

    def _arrange(self, columns: Sequence[range]) -> tuple[list[_Row], float, float]:
        """The rows, and the width and height of them all."""
        titled = [stage.first for stage in self._stages if stage.title]
        leads = [next((s - max(row.start - 1, 0) for s in titled if s in row), 1) for row in columns]
        rows: list[_Row] = []
        depth = 0.0
        for row, lead in zip(columns, leads, strict=True):
            first = max(row.start - 1, 0)
            low, high = self.lanes(range(first, row.stop))
            depth += _ABOVE + high * _LANE + (_GAP if rows else 0)
            rows.append(_Row(row, first, (max(leads) - lead) * self._column, -depth))
            depth += -low * _LANE + _BELOW
        width = max(row.left + (row.columns.stop - row.first) * self._column for row in rows)
        return [replace(row, base=row.base + depth) for row in rows], width, depth


class _Picture:
    """The figure of a graph, drawn part by part."""

    def __init__(self, graph: NeuralGraph) -> None:
        self._graph = graph
        self._layout = lay_out(graph)
        self._sizes = {group.name: group.size for group in graph.neurons}
        self._labels = _labels(graph, self._layout)
        widest = max(len(line) for lines in self._labels.values() for line in lines)
        self._column = max(_NARROW, widest * _CHARACTER + 0.3)
        self._page = _Page(self._layout, self._column)
        self._joining: dict[frozenset[str], list[_Line]] = {}
        for line in _lines(graph.edges):
            self._joining.setdefault(frozenset({line.src, line.dst}), []).append(line)
        self._beside: dict[str, list[str]] = {}
        for vector, name in self._layout.beside.items():
            self._beside.setdefault(name, []).append(vector)

    def draw(self) -> Any:
        """All parts, from the back to the front."""
        figure = self._make_figure()
        for row in self._page.rows:
            self._draw_stages(row)
            self._draw_routes(row)
            self._draw_neurons(row)
        return figure

    def _make_figure(self) -> Any:
        """The empty axes of the blocks, and all that is around them."""
        small = self._graph.num_nodes <= _ADJACENCY_NODES
        room = _ADJACENCY_ROOM if small else 0.0
        width = max(self._page.width + 2 * _MARGIN + room, _LEAST_WIDTH)
        title = textwrap.wrap(summarize(self._graph), int(width / _CHARACTER / _TITLE_SCALE))
        handles = [self._legend_handle(kind) for kind in sorted({block.kind for block in self._graph.edges})]
        legend_columns = max(1, min(len(handles), int(width / _LEGEND_CELL)))
        foot = _MARGIN + _LEGEND_LINE * math.ceil(len(handles) / legend_columns)
        head = _MARGIN + _TITLE_LINE * len(title)
        body = max(self._page.height, _ADJACENCY + _BELOW if small else 0.0)
        height = head + body + foot
        figure = require("matplotlib.figure", _PURPOSE).Figure(figsize=(width, height), dpi=_DPI)
        # Writes PNG on any machine, whatever backend the user has chosen.
        require("matplotlib.backends.backend_agg", _PURPOSE).FigureCanvasAgg(figure)
        left = (width - room - self._page.width) / 2
        bottom = foot + (body - self._page.height) / 2
        self._axes = _inch_axes(figure, left, bottom, self._page.width, self._page.height)
        self._axes.set(xlim=(0, self._page.width), ylim=(0, self._page.height))
        self._axes.set_axis_off()
        figure.text(0.5, 1 - 0.12 / height, "\n".join(title), ha="center", va="top", fontsize=8.5, color=_INK)
        if handles:
            figure.legend(
                handles=handles, loc="lower center", ncols=legend_columns, frameon=False, fontsize=7.5, borderpad=0.4
            )
        if small:
            side = width - room + _ADJACENCY_LABELS
            square = _inch_axes(figure, side, foot + (body - _ADJACENCY) / 2, _ADJACENCY, _ADJACENCY)
            draw_adjacency(square, self._graph, _common_prefix(list(self._layout.places)))
        return figure

    def _legend_handle(self, kind: EdgeKind) -> Any:
        style = "-" if not kind.structural else _DASHES
        label = kind.name.lower().replace("_", " ")
        return require("matplotlib.lines", _PURPOSE).Line2D(
            [], [], color=COLOURS[kind], linewidth=1.8, linestyle=style, label=label
        )

    def _draw_stages(self, row: _Row) -> None:
        """A panel with its name behind each repeated layer."""
        box = require("matplotlib.patches", _PURPOSE).FancyBboxPatch
        titled = {c for s in self._layout.stages if s.title for c in range(s.first, s.last + 1) if c in row.columns}
        low, high = self._page.lanes(titled or row.columns)
        for stage in self._layout.stages:
            first, last = max(stage.first, row.columns.start), min(stage.last, row.columns.stop - 1)
            if not stage.title or first > last:
                continue
            left, top = self._page.at(row, Place(first, high))
            right, bottom = self._page.at(row, Place(last, low))
            left, right = left - self._column / 2 + 0.1, right + self._column / 2 - 0.1
            top, bottom = top + _ABOVE - 0.08, bottom - _BELOW + 0.08
            style = "round,pad=0,rounding_size=0.08"
            panel = box((left, bottom), right - left, top - bottom, style, facecolor=_PANEL, edgecolor="none", zorder=0)
            self._axes.add_patch(panel)
            self._text(left + 0.07, top - 0.05, stage.title, va="top", color=_FAINT, fontsize=7.5, weight="bold")

    # Edges.

    def _draw_routes(self, row: _Row) -> None:
        for route in self._layout.routes:
            lines = self._joining[frozenset({route.left, route.right})]
            for number, line in enumerate(lines):
                self._draw_line(row, route, line, (number - (len(lines) - 1) / 2) * _PARALLEL)
        for name, place in self._layout.places.items():
            if place.column in row.columns:
                for line in self._joining.get(frozenset({name}), []):
                    self._draw_loop(row, line)

    def _draw_line(self, row: _Row, route: Route, line: _Line, offset: float) -> None:
        """What a row shows of a line, with a head where it enters its destination."""
        shown = [place for place in route.places if row.first <= place.column < row.columns.stop]
        at_left, at_right = route.places[0] in shown, route.places[-1] in shown
        if not shown or (len(shown) == 1 and (at_left or at_right)):  # the row before or after shows it
            return
        points = [(x, y + offset) for x, y in (self._page.at(row, place) for place in shown)]
        if at_left:
            points[0] = (points[0][0] + self._edge_of(route.left, offset), points[0][1])
        if at_right:
            points[-1] = (points[-1][0] - self._edge_of(route.right, offset), points[-1][1])
        else:
            points.append((points[-1][0] + 0.45 * self._column, points[-1][1]))
        vertices = _curve(points, offset)
        if line.dst == route.right and at_right:
            vertices[-1] = self._draw_head(vertices[-1], 1, line.kind)
        elif line.dst == route.left and at_left:
            vertices[0] = self._draw_head(vertices[0], -1, line.kind)
        path, patch = require("matplotlib.path", _PURPOSE).Path, require("matplotlib.patches", _PURPOSE).PathPatch
        codes = [path.MOVETO, *[path.CURVE4] * (len(vertices) - 1)]
        self._axes.add_patch(patch(path(vertices, codes), gid=line.gid, zorder=1, **line.style))
        if line.blocks > 1 and at_right:
            self._draw_count(points[-2], points[-1], line)

    def _draw_count(self, left: tuple[float, float], right: tuple[float, float], line: _Line) -> None:
        """How many blocks a line stands for: beside it where it is steep, else above."""
        x, y = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
        steep = abs(left[1] - right[1]) > _LANE / 3
        self._text(
            x + (0.07 if steep else 0),
            y + (0 if steep else 0.05),
            f"×{line.blocks}",
            ha="left" if steep else "center",
            va="center" if steep else "bottom",
            color=COLOURS[line.kind],
        )

    def _edge_of(self, name: str, offset: float) -> float:
        """How far beside its middle the circle of a group ends, at a height."""
        return math.sqrt(max(_radius(self._sizes[name]) ** 2 - offset**2, 0.0))

    def _draw_head(self, tip: tuple[float, float], direction: int, kind: EdgeKind) -> tuple[float, float]:
        """The head of an arrow; returns where its shaft ends."""
        back = tip[0] - direction * _ARROW
        corners = [tip, (back, tip[1] + _ARROW * 0.4), (back, tip[1] - _ARROW * 0.4)]
        head = require("matplotlib.patches", _PURPOSE).Polygon(corners, color=COLOURS[kind], linewidth=0, zorder=2)
        self._axes.add_patch(head)
        return back, tip[1]

    def _draw_loop(self, row: _Row, line: _Line) -> None:
        """Blocks from a group to itself: a ring at the lower right of its circle."""
        x, y = self._page.at(row, self._layout.places[line.src])
        out = (_radius(self._sizes[line.src]) + 0.04) * math.sqrt(0.5)
        circle = require("matplotlib.patches", _PURPOSE).Circle
        self._axes.add_patch(circle((x + out, y - out), 0.09, gid=line.gid, zorder=1, **line.style))

    # Neurons.

    def _draw_neurons(self, row: _Row) -> None:
        continuing = {route.left for route in self._layout.routes}
        for name, place in self._layout.places.items():
            if place.column in row.columns:
                self._draw_vectors(name, self._page.at(row, place))
                self._draw_group(name, self._page.at(row, place), f"neurons:{name}", _INK)
            elif place.column == row.first and name in continuing:
                self._draw_group(name, self._page.at(row, place), f"again:{name}", _FAINT)

    def _draw_group(self, name: str, at: tuple[float, float], gid: str, colour: str) -> None:
        radius = _radius(self._sizes[name])
        circle = require("matplotlib.patches", _PURPOSE).Circle
        self._axes.add_patch(circle(at, radius, gid=gid, facecolor=_FILL, edgecolor=colour, linewidth=1.0, zorder=3))
        for number, text in enumerate(self._labels[name]):
            line = at[1] - radius - 0.04 - _LINE * (number + 0.75)
            faint = colour == _INK and number == len(self._labels[name]) - 1
            self._text(at[0], line, text, ha="center", va="baseline", color=_GREY if faint else colour)

    def _draw_vectors(self, name: str, at: tuple[float, float]) -> None:
        """Dots in a fan above the circle of a group: what scales and shifts it."""
        lines = [line for vector in self._beside.get(name, []) for line in self._joining[frozenset({vector, name})]]
        step = min(30.0, 200.0 / max(len(lines) - 1, 1))
        inner, outer = _radius(self._sizes[name]), _radius(self._sizes[name]) + 0.12
        line2d, circle = require("matplotlib.lines", _PURPOSE).Line2D, require("matplotlib.patches", _PURPOSE).Circle
        for number, line in enumerate(lines):
            angle = math.radians(90 - (number - (len(lines) - 1) / 2) * step)
            ends = [(at[0] + r * math.cos(angle), at[1] + r * math.sin(angle)) for r in (inner, outer)]
            xs, ys = zip(*ends, strict=True)
            self._axes.add_line(line2d(xs, ys, gid=line.gid, color=COLOURS[line.kind], linewidth=0.9, zorder=2))
            colour = COLOURS[line.kind]
            dot = circle(ends[1], _DOT, gid=f"neurons:{line.src}", facecolor=colour, edgecolor="none", zorder=3)
            self._axes.add_patch(dot)

    def _text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text with a light rim, so that lines may pass behind it; never read as a formula."""
        rim = require("matplotlib.patheffects", _PURPOSE).withStroke(linewidth=2, foreground=_PANEL, alpha=0.85)
        self._axes.text(x, y, text, parse_math=False, path_effects=[rim], zorder=4, **style)


def _curve(points: Sequence[tuple[float, float]], offset: float) -> list[tuple[float, float]]:
    """Bézier curves through points, level there; those with offsets upwards stay parallel to those without."""
    vertices = [points[0]]
    for (x, y), (x_next, y_next) in pairwise(points):
        bend = _BEND * (x_next - x)
        shift = -math.copysign(offset, offset * (y_next - y))
        vertices += [(x + bend + shift, y), (x_next - bend + shift, y_next), (x_next, y_next)]
    return vertices


def _labels(graph: NeuralGraph, layout: Layout) -> dict[str, list[str]]:
    """The lines of text under each group: its name, without what its stage or all have in common, and its size."""
    common = _common_prefix(list(layout.places))
    prefixes = {
        column: f"{stage.title}." if stage.title else common
        for stage in layout.stages
        for column in range(stage.first, stage.last + 1)
    }
    return {
        group.name: [
            *_short_label(group.name.removeprefix(prefixes[layout.places[group.name].column])),
            f"{group.size:,}",
        ]
        for group in graph.neurons
        if group.name in layout.places
    }


def _inch_axes(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))
