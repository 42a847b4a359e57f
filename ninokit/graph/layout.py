"""Where the groups of a neural graph stand in its picture: columns from inputs to outputs, and lanes in a column.

A repeated layer of the network, which is a dotted name up to its first number, has columns of its own; so have the
groups before, between and after such layers. Inside them, columns are the longest paths along the blocks of edges.
Two kinds run against the flow, by convention: keys lead from the queries back to what they read, and a head to the
neurons that it gathers. A block over several columns has a lane in each of them, as if a neuron stood there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph

__all__ = ["Layout", "Place", "Route", "Stage", "break_rows", "lay_out"]

_BACKWARD = frozenset({EdgeKind.KEY, EdgeKind.ATTENTION_HEAD})
_VECTORS = frozenset({EdgeKind.BIAS, EdgeKind.NORM_SCALE})
_NUMBERED = re.compile(r"(?:[^.]+\.)*?[^.]*[^.\d][^.]*\.\d+(?=\.)")
_RESIDUAL, _LEADS_ON = 1e6, 1e2  # weights in the choice of lanes, where dead ends have 1: the stream runs straight


class Place(NamedTuple):
    """A point of the picture, in columns from the left and in lanes from the bottom; lanes may be fractions."""

    column: int
    lane: float


class Route(NamedTuple):
    """The way of all blocks that join two groups, in either direction: a place in each column from left to right."""

    left: str
    right: str
    places: tuple[Place, ...]


class Stage(NamedTuple):
    """Consecutive columns with the groups of a repeated layer; or with other groups, and then without a title."""

    title: str
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Args:
        places: group → its place; groups that are shown beside what they act on have none.
        beside: single neuron that only scales or shifts one group → that group.
        routes: the way of the blocks between each two groups that have places.
        stages: in their order, which cover all columns.
    """

    places: Mapping[str, Place]
    beside: Mapping[str, str]
    routes: tuple[Route, ...]
    stages: tuple[Stage, ...]


_Link = tuple[str, str]


def lay_out(graph: NeuralGraph) -> Layout:
    """Find places for the groups of a graph.

    Args:
        graph: any neural graph; cycles and groups without edges are welcome.

    Returns:
        The same layout for equal graphs.

    Example:
        >>> import torch, ninokit
        >>> layout = lay_out(ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))))
        >>> layout.places
        {'(input)': Place(column=0, lane=0.0), '0': Place(column=1, lane=0.0), '1': Place(column=2, lane=0.0)}
        >>> layout.beside
        {'0.bias': '0', '1.bias': '1'}
    """
    beside = _beside(graph)
    names = [group.name for group in graph.neurons if group.name not in beside]
    blocks = [block for block in graph.edges if block.src.name not in beside and block.src != block.dst]
    links = list(dict.fromkeys(_forward(block) for block in blocks))
    columns, stages = _columns(names, links)
    ways = list(dict.fromkeys((a, b) if columns[a] < columns[b] else (b, a) for a, b in links))
    residual = {link for block in blocks if block.kind is EdgeKind.RESIDUAL for link in _both_ways(block)}
    lanes = _Lanes(names, columns, ways, residual).find()
    return Layout(
        places={name: Place(columns[name], lanes[name, columns[name]]) for name in names},
        beside=beside,
        routes=tuple(_route(way, columns, lanes) for way in ways),
        stages=stages,
    )


def break_rows(stages: Sequence[Stage], limit: int) -> tuple[range, ...]:
    """Cut the columns into rows, between stages where that is possible.

    Args:
        stages: which cover all columns.
        limit: at most so many columns a row; one or two columns of other groups are added to a row in any case.

    Returns:
        The columns of each row.

    Example:
        >>> break_rows([Stage("", 0, 1), Stage("layers.0", 2, 5), Stage("layers.1", 6, 9), Stage("", 10, 10)], 4)
        (range(0, 6), range(6, 11))
    """
    rows: list[range] = []
    used = limit  # as in a full row: the first stage begins one
    for stage in stages:
        width = stage.last - stage.first + 1
        small = not stage.title and width <= 2
        if rows and (small or used + width <= limit):
            rows[-1] = range(rows[-1].start, stage.last + 1)
            used += 0 if small else width
        else:
            starts = range(stage.first, stage.last + 1, limit)
            rows += [range(start, min(start + limit, stage.last + 1)) for start in starts]
            used = 0 if small else len(rows[-1])
    return tuple(rows)


def _beside(graph: NeuralGraph) -> dict[str, str]:
    leaving: dict[str, list[Edges]] = {group.name: [] for group in graph.neurons if group.size == 1}
    for block in graph.edges:
        if block.src.name in leaving:
            leaving[block.src.name].append(block)
    for block in graph.edges:  # what something acts on is more than a bias
        leaving.pop(block.dst.name, None)
    return {
        name: blocks[0].dst.name
        for name, blocks in leaving.items()
        if len({block.dst.name for block in blocks}) == 1 and all(block.kind in _VECTORS for block in blocks)
    }


def _forward(block: Edges) -> _Link:
    ends = (block.src.name, block.dst.name)
    return ends[::-1] if block.kind in _BACKWARD else ends


def _both_ways(block: Edges) -> tuple[_Link, _Link]:
    ends = (block.src.name, block.dst.name)
    return ends, ends[::-1]


def _route(way: _Link, columns: Mapping[str, int], lanes: Mapping[tuple[str | _Link, int], float]) -> Route:
    left, right = way
    first, last = columns[left], columns[right]
    between = [Place(column, lanes[way, column]) for column in range(first + 1, last)]
    return Route(left, right, (Place(first, lanes[left, first]), *between, Place(last, lanes[right, last])))


# Columns.


def _columns(names: Sequence[str], links: Sequence[_Link]) -> tuple[dict[str, int], tuple[Stage, ...]]:
    columns: dict[str, int] = {}
    stages: list[Stage] = []
    for title, members in _stages(names):
        first = len({*columns.values()})
        inside = [(a, b) for a, b in links if a in members and b in members]
        fed = {b for a, b in links if columns.get(a) == first - 1}
        ranks = _ranks(list(members), _without_cycles(list(members), inside), fed)
        columns |= {name: first + rank for name, rank in ranks.items()}
        stages.append(Stage(title, first, first + max(ranks.values())))
    return columns, tuple(stages)


def _stages(names: Sequence[str]) -> list[tuple[str, dict[str, None]]]:
    """Consecutive groups of one repeated layer, or of none; a single group is no layer."""
    titles = {name: match[0] if (match := _NUMBERED.match(name)) else "" for name in names}
    runs = [(title, list(run)) for title, run in groupby(names, titles.__getitem__)]
    kept = [(title if len(run) > 1 else "", run) for title, run in runs]
    merged = groupby(kept, key=lambda part: part[0])
    return [(title, dict.fromkeys(name for _, run in parts for name in run)) for title, parts in merged]


def _without_cycles(names: Sequence[str], links: Sequence[_Link]) -> list[_Link]:
    """The links without those that close a cycle, when they are followed depth first from the first group on."""
    following = _neighbours(names, links)
    closing: set[_Link] = set()
    finished: set[str] = set()
    for start in names:
        if start in finished:
            continue
        path = {start: iter(following[start])}
        while path:
            name, rest = next(reversed(path.items()))
            after = next(rest, None)
            if after is None:
                finished.add(path.popitem()[0])
            elif after in path:
                closing.add((name, after))
            elif after not in finished:
                path[after] = iter(following[after])
    return [link for link in links if link not in closing]


def _ranks(names: Sequence[str], links: Sequence[_Link], fed: set[str]) -> dict[str, int]:
    """Lengths of the longest paths that end in each group.

    What begins a path stands just before what follows it, unless it is fed by the column before the stage.
    """
    following = _neighbours(names, links)
    waiting = dict.fromkeys(names, 0)
    for _, after in links:
        waiting[after] += 1
    begins = [name for name in names if not waiting[name]]
    ranks = dict.fromkeys(names, 0)
    ready = list(begins)
    while ready:
        name = ready.pop()
        for after in following[name]:
            ranks[after] = max(ranks[after], ranks[name] + 1)
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    for name in begins:
        if name not in fed:
            ranks[name] = min((ranks[after] for after in following[name]), default=1) - 1
    return ranks


def _neighbours(names: Iterable[str], links: Iterable[_Link]) -> dict[str, list[str]]:
    following: dict[str, list[str]] = {name: [] for name in names}
    for name, after in links:
        following[name].append(after)
    return following


# Lanes.


class _Item(NamedTuple):
    """A group, or a way that passes, in a column.

    Args:
        key: name of the group, or the two ends of the way.
        wanted: the lane on which it would be straight.
        weight: how much that counts.
        order: what decides among those that want the same lane, from the bottom.
    """

    key: str | _Link
    wanted: float
    weight: float
    order: tuple[int, int]


class _Lanes:
    """The choice of lanes, column by column from the left."""

    def __init__(
        self, names: Sequence[str], columns: Mapping[str, int], ways: Sequence[_Link], residual: set[_Link]
    ) -> None:
        self._columns = columns
        self._residual = residual
        self._index = {name: number for number, name in enumerate(names)}
        self._standing: dict[int, list[str]] = {}
        for name in names:
            self._standing.setdefault(columns[name], []).append(name)
        self._passing: dict[int, list[_Link]] = {column: [] for column in self._standing}
        self._entering: dict[str, list[_Link]] = {name: [] for name in names}
        for left, right in ways:
            self._entering[right].append((left, right))
            for column in range(columns[left] + 1, columns[right]):
                self._passing[column].append((left, right))
        self._leading = {left for left, _ in ways}
        self._found: dict[tuple[str | _Link, int], float] = {}

    def find(self) -> Mapping[tuple[str | _Link, int], float]:
        """Lanes of all groups and of all ways in the columns between their ends."""
        for column in sorted(self._standing):
            placed = [self._pass(way, column) for way in self._passing[column]]
            placed += [self._group(name) for name in self._standing[column] if self._entering[name]]
            top = max((item.wanted + 1 for item in placed), default=0.0)  # above: what nothing leads to
            placed += [
                _Item(name, top, 1.0, (1, -self._index[name]))
                for name in self._standing[column]
                if not self._entering[name]
            ]
            placed.sort(key=lambda item: (round(item.wanted, 6), item.order))
            for item, lane in zip(placed, _spread([(item.wanted, item.weight) for item in placed]), strict=True):
                self._found[item.key, column] = lane
        return self._found

    def _pass(self, way: _Link, column: int) -> _Item:
        length = self._columns[way[1]] - self._columns[way[0]]
        if way in self._residual:  # the longest at the bottom, the shortest straight
            return _Item(way, self._before(way, column), _RESIDUAL / length, (0, -length))
        return _Item(way, self._before(way, column), 1.0, (1, -self._index[way[0]]))

    def _group(self, name: str) -> _Item:
        ways = self._entering[name]
        residual = [way for way in ways if way in self._residual]
        lanes = [self._before(way, self._columns[name]) for way in residual or ways]
        weight = _RESIDUAL if residual else _LEADS_ON if name in self._leading else 1.0
        return _Item(name, sum(lanes) / len(lanes), weight, (0 if residual else 1, -self._index[name]))

    def _before(self, way: _Link, column: int) -> float:
        """The lane of a way in the column before."""
        left = way[0]
        return self._found[left if self._columns[left] == column - 1 else way, column - 1]


def _spread(wanted: Sequence[tuple[float, float]]) -> list[float]:
    """Lanes at least 1 apart, in this order, as near as possible to the wanted ones: weighted least squares.

    Pool adjacent violators (Barlow et al. 1972), on the lanes less their ranks.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for rank, (lane, weight) in enumerate(wanted):
        pool = (lane - rank, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, more, members = pools.pop()
            total = more + pool[1]
            pool = ((mean * more + pool[0] * pool[1]) / total, total, members + pool[2])
        pools.append(pool)
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [round(mean + rank, 3) for rank, mean in enumerate(means)]
