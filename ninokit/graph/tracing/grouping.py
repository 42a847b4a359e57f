"""Neurons that are alike, in an order that every parameter numbers evenly: the groups of the graph.

Neurons may stand in one group if nothing tells them apart: the same dimensions number them, they are added to neurons
of one group, belong to heads of one group, and so on. The finest such partition is found by refining colours until
they are stable. Then each group must be numbered by arithmetic progressions, which is what a view of a parameter can
read; one that is not is cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ninokit.graph.tracing.elements import Base, Elements
from ninokit.graph.tracing.neurons import Ints, Neurality, mix

__all__ = ["Group", "Grouping", "Series", "digits_of", "find_groups"]


def digits_of(positions: Ints) -> list[tuple[int, int]] | None:
    """Positions as a lattice: (size, stride) of each digit, outermost first; None if they are none.

    Example:
        >>> import numpy as np
        >>> digits_of(np.array([0, 1, 2, 10, 11, 12]))
        [(2, 10), (3, 1)]
    """
    if len(positions) == 1:
        return []
    step = int(positions[1] - positions[0])
    steps = np.diff(positions)
    other = np.flatnonzero(steps != step)
    run = int(other[0]) + 1 if len(other) else len(positions)
    if step <= 0 or len(positions) % run:
        return None
    rows = positions.reshape(-1, run)
    if (np.diff(rows, axis=1) != step).any():
        return None
    outer, reach = digits_of(rows[:, 0]), step * (run - 1)
    if outer is None:
        return None
    for size, stride in reversed(outer):
        if stride <= reach:
            return None
        reach += stride * (size - 1)
    return [*outer, (run, step)]


@dataclass(frozen=True)
class Series:
    """Where a dimension numbers a group.

    Attributes:
        base: the dimension.
        place: at which place of each neuron.
        positions: shape (size of the group,), the index of each neuron.
    """

    base: Base
    place: int
    positions: Ints


@dataclass
class Group:
    """Neurons in order.

    Attributes:
        nodes: shape (size,).
        series: where dimensions number them.
        fixed: whether they keep their order.
        rigid: how many in a row keep their order.
    """

    nodes: Ints
    series: list[Series]
    fixed: bool
    rigid: int = 1

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self.nodes)


@dataclass
class Grouping:
    """All groups.

    Attributes:
        groups: in the order of their first elements.
        of_node: neuron → the number of its group; -1 for one in none.
        index: neuron → its place in the group.
    """

    groups: list[Group]
    of_node: Ints
    index: Ints
    series: dict[int, list[tuple[int, Series]]] = field(default_factory=dict)  # start of a base → group, series

    def cut(self, number: int) -> int:
        """How many digits the positions of a group have at most."""
        return max((len(digits_of(s.positions) or []) for s in self.groups[number].series), default=0)


class _SlicePart(NamedTuple):
    """The channels on one side of the slices of a convolution, shape (slices, channels of one)."""

    nodes: Ints
    ranks: Ints  # odd numbers that tell apart at which of its occurrences a neuron is meant

    @classmethod
    def of(cls, entering: Ints, leaving: Ints, node: Ints, rank: Ints) -> tuple[_SlicePart, _SlicePart]:
        return cls(node[entering], 2 * rank[entering] + 1), cls(node[leaving], 2 * rank[leaving] + 1)


class _Partition:
    """Colours of the neurons, refined step by step."""

    def __init__(self, found: Neurality, elements: Elements, bases: list[Base]) -> None:
        self.found, self.elements = found, elements
        count = elements.count
        occurrences = [
            (number, base, np.arange(base.start, base.start + base.size)) for number, base in enumerate(bases)
        ]
        self.bases = bases
        self.occ_base = np.concatenate([np.full(base.size, number) for number, base, _ in occurrences])
        self.occ_element = np.concatenate([e for _, _, e in occurrences])
        self.occ_node = found.node[self.occ_element]
        self.occ_position = np.concatenate([np.arange(base.size) for base in bases])
        self.occ_place = self._ranks()
        self.residual = [self._pairs(a.numpy(), b.numpy()) for a, b in (*elements.residual, *elements.tied)]
        self.related = [(self._pairs(r.child.numpy(), r.parent.numpy()), r.rigid) for r in elements.relations]
        rank = np.zeros(count, np.int64)
        rank[self.occ_element] = self.occ_place
        self.slices = [
            _SlicePart.of(t.entering.numpy(), t.leaving.numpy(), found.node, rank) for t in elements.slice_ties
        ]
        self.active = np.zeros(count, bool)
        self.active[self.occ_node] = True
        for (child, parent), _ in self.related:
            self.active[parent] |= self.active[child].any()
        self.nodes = np.flatnonzero(self.active)
        self.colour = found.colour + mix(found.fixed, 1)
        with np.errstate(over="ignore"):
            np.add.at(self.colour, self.occ_node, mix(self.occ_base * 1_000_003 + self.occ_place, 2))
            for salt, (old, new) in enumerate(self.residual):
                np.add.at(self.colour, new, mix(_places_among(old, new), 5 + 8 * salt))
                np.add.at(self.colour, old, mix(_places_among(new, old), 6 + 8 * salt))
        self.first = self._first_elements(count)

    def _pairs(self, a: Ints, b: Ints) -> tuple[Ints, Ints]:
        pairs = np.unique(np.stack([self.found.node[a], self.found.node[b]]), axis=1)
        return pairs[0], pairs[1]

    def _ranks(self) -> Ints:
        """At which of its occurrences in a dimension a neuron stands, by place, then by position."""
        place = self.found.place[self.occ_element]
        order = np.lexsort((self.occ_position, place, self.occ_node, self.occ_base))
        key = np.stack([self.occ_base[order], self.occ_node[order]])
        new = np.ones(len(order), bool)
        new[1:] = (key[:, 1:] != key[:, :-1]).any(axis=0)
        starts = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order)) - starts
        return ranks

    def _first_elements(self, count: int) -> Ints:
        """By which neurons of a group are ordered: their first element in a dimension that writes to them."""
        first = np.full(count, np.iinfo(np.int64).max)
        written = np.array([base.born is not None or not base.contracted for base in self.bases])[self.occ_base]
        np.minimum.at(first, self.occ_node[written], self.occ_element[written])
        rest = first == np.iinfo(np.int64).max
        first[rest] = np.arange(count)[rest]
        return first

    def refine(self) -> None:
        """Until no neuron is told apart any more."""
        classes = self._classes()
        while True:
            number = len(np.unique(classes[self.nodes]))
            with np.errstate(over="ignore"):
                self._spread(classes)
            classes = self._classes()
            if len(np.unique(classes[self.nodes])) == number:
                return

    def _classes(self) -> Ints:
        classes = np.zeros(len(self.colour), np.int64)
        classes[self.nodes] = np.unique(self.colour[self.nodes], return_inverse=True)[1]
        return classes

    def _spread(self, classes: Ints) -> None:
        colour = np.zeros(len(classes), np.uint64)
        colour[self.nodes] = mix(classes[self.nodes], 3)
        for salt, (old, new) in enumerate(self.residual):
            np.add.at(colour, new, mix(classes[old], 10 + 8 * salt))
            np.add.at(colour, old, mix(classes[new], 11 + 8 * salt))
        for salt, ((child, parent), rigid) in enumerate(self.related):
            np.add.at(colour, child, mix(classes[parent] * 2 + rigid, 12 + 8 * salt))
            np.add.at(colour, parent, mix(classes[child] * 2 + rigid, 13 + 8 * salt))
        for salt, sides in enumerate(self.slices):
            whole = sum(mix(classes[s.nodes] * s.ranks, 14 + n + 8 * salt).sum(1) for n, s in enumerate(sides))
            for n, side in enumerate(sides):
                np.add.at(colour, side.nodes, mix(whole, 16 + n + 8 * salt)[:, None].repeat(side.nodes.shape[1], 1))
        self.colour = colour

    def split(self, parts: Iterable[Ints]) -> None:
        """Tell the parts of a group apart."""
        for number, nodes in enumerate(parts):
            with np.errstate(over="ignore"):
                self.colour[nodes] += mix(number, 4)

    def grouping(self) -> Grouping:
        """The classes of colours as groups, ordered."""
        classes = self._classes()
        order = self.nodes[np.lexsort((self.first[self.nodes], classes[self.nodes]))]
        bounds = np.flatnonzero(np.diff(classes[order])) + 1
        members = sorted(np.split(order, bounds), key=lambda nodes: int(self.first[nodes[0]]))
        of_node, index = np.full(len(classes), -1), np.zeros(len(classes), np.int64)
        for number, nodes in enumerate(members):
            of_node[nodes] = number
            index[nodes] = np.arange(len(nodes))
        groups = [Group(nodes, [], bool(self.found.fixed[nodes[0]])) for nodes in members]
        made = Grouping(groups, of_node, index)
        for number, series in self._series(of_node, index):
            groups[number].series.append(series)
            made.series.setdefault(series.base.start, []).append((number, series))
        return made

    def _series(self, of_node: Ints, index: Ints) -> Iterator[tuple[int, Series]]:
        group = of_node[self.occ_node]
        order = np.lexsort((index[self.occ_node], self.occ_place, group, self.occ_base))
        key = np.stack([self.occ_base[order], group[order], self.occ_place[order]])
        bounds = np.flatnonzero((np.diff(key, axis=1) != 0).any(axis=0)) + 1
        for part in np.split(order, bounds):
            base = self.bases[self.occ_base[part[0]]]
            yield int(group[part[0]]), Series(base, int(self.occ_place[part[0]]), self.occ_position[part])


def find_groups(found: Neurality, elements: Elements, uneven: Collection[str] = ()) -> Grouping:
    """The groups of the graph.

    Args:
        found: the neurons.
        elements: what is known of them.
        uneven: parameters whose neurons become groups of one each.

    Returns:
        Groups that every dimension numbers by arithmetic progressions, or by two nested ones.
    """
    bases = [base for layer in found.layers for base in (layer.src, layer.dst) if base is not None]
    if not bases:
        return Grouping([], np.full(elements.count, -1), np.zeros(elements.count, np.int64))
    partition = _Partition(found, elements, bases)
    for base in bases:
        if base.parameter in uneven:
            partition.split(np.unique(found.node[base.start : base.start + base.size])[:, None])
    while True:
        partition.refine()
        made = partition.grouping()
        parts = list(_cuts(made, partition))
        if not parts:
            _make_rigid(made, partition)
            return made
        for part in parts:
            partition.split(part)


def _cuts(made: Grouping, partition: _Partition) -> Iterator[list[Ints]]:
    """Groups that have to be cut, and into what."""
    pairs = _layer_pairs(made, partition.found)
    cut: set[int] = set()
    for number, group in enumerate(made.groups):
        starts = {0}
        for series in group.series:
            starts |= _breaks(series)
        if len(starts) > 1:
            cut.add(number)
            yield np.split(group.nodes, sorted(starts - {0}))
    for first, second in pairs:
        if made.cut(first) > 1 and made.cut(second) > 1 and not {first, second} & cut:
            cut.add(second)
            yield np.split(made.groups[second].nodes, _run_starts(made.groups[second]))
    for old, new in partition.residual:
        yield from _residual_cuts(made, old, new, cut)


def _breaks(series: Series) -> set[int]:
    """Where a group has to be cut for a dimension to number the parts evenly."""
    positions = series.positions
    if series.base.slices > 1:
        return _slice_breaks(series)
    digits = digits_of(positions)
    if digits is not None and len(digits) <= 2:
        return set()
    return _progressions(positions)


def _progressions(positions: Ints) -> set[int]:
    """The starts of the longest ascending arithmetic progressions, taken greedily."""
    starts, steps = {0}, np.diff(positions)
    at = 0
    while at < len(steps):
        if steps[at] <= 0:
            at += 1
            starts.add(at)
            continue
        other = np.flatnonzero(steps[at:] != steps[at])
        if not len(other):
            break
        at += int(other[0]) + 1
        if at >= len(positions):
            break
        starts.add(at)
    return starts


def _slice_breaks(series: Series) -> set[int]:
    """In the numbering of all slices, each slice that a group has a part in must be alike, and in order."""
    width = series.base.size // series.base.slices
    slices, offsets = series.positions // width, series.positions % width
    starts = np.concatenate([[0], np.flatnonzero(np.diff(slices)) + 1])
    numbers, lengths = slices[starts], np.diff(np.append(starts, len(slices)))
    alike = bool((lengths == lengths[0]).all()) and bool(
        (offsets.reshape(len(starts), -1) == offsets[: lengths[0]]).all()
    )
    if not alike:
        return {int(start) for start in starts}
    inner = digits_of(offsets[: lengths[0]])
    if inner is None or len(inner) > 1:
        return {int(start) for start in starts} if len(starts) > 1 else _progressions(offsets)
    breaks = _progressions(numbers)
    return {int(starts[number]) for number in breaks} if len(breaks) > 1 else set()


def _run_starts(group: Group) -> list[int]:
    starts: set[int] = set()
    for series in group.series:
        digits = digits_of(series.positions) or []
        if len(digits) > 1 and series.base.slices == 1:
            starts |= set(range(0, group.size, digits[-1][0]))
    return sorted(starts - {0})


def _layer_pairs(made: Grouping, found: Neurality) -> set[tuple[int, int]]:
    """The groups that a parameter joins, of those that it numbers in two digits."""
    pairs = set()
    for layer in found.layers:
        if layer.src is None or layer.dst is None or max(layer.src.slices, layer.dst.slices) > 1:
            continue
        ends = []
        for base in (layer.dst, layer.src):
            ends.append({g for g, s in made.series.get(base.start, []) if len(digits_of(s.positions) or []) > 1})
        pairs |= {(dst, src) for dst in ends[0] for src in ends[1]}
    return pairs


def _residual_cuts(made: Grouping, old: Ints, new: Ints, cut: set[int]) -> Iterator[list[Ints]]:
    """Groups of which one is added to the other have to be in one order."""
    for source, target, a, b in paired_groups(made, old, new):
        if source in cut or target in cut or source == target:
            continue
        steps = np.flatnonzero(np.diff(b) != 1) + 1
        if len(steps) and len(b) == made.groups[target].size:
            cut.add(source)
            yield np.split(made.groups[source].nodes[a], steps)


def paired_groups(made: Grouping, first: Ints, second: Ints) -> Iterator[tuple[int, int, Ints, Ints]]:
    """Pairs of neurons by pairs of groups, in the order of the first: groups, and places in them."""
    groups = np.stack([made.of_node[first], made.of_node[second]])
    places = np.stack([made.index[first], made.index[second]])
    known = (groups >= 0).all(axis=0)
    groups, places = groups[:, known], places[:, known]
    order = np.lexsort((places[1], places[0], groups[1], groups[0]))
    groups, places = groups[:, order], places[:, order]
    bounds = np.flatnonzero((np.diff(groups, axis=1) != 0).any(axis=0)) + 1
    for pair, place in zip(np.split(groups, bounds, axis=1), np.split(places, bounds, axis=1), strict=True):
        if pair.size:
            yield int(pair[0, 0]), int(pair[1, 0]), place[0], place[1]


def _places_among(nodes: Ints, others: Ints) -> Ints:
    """The place of each pair's second node among those that its first one is paired with.

    Several gates of a recurrent layer, say, are added to by one neuron each; nothing else may tell them apart.
    """
    order = np.lexsort((others, nodes))
    starts = np.flatnonzero(np.diff(nodes[order], prepend=-1))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return places


def _make_rigid(made: Grouping, partition: _Partition) -> None:
    """How many neurons in a row keep their order, in each group."""
    for group in made.groups:
        group.rigid = group.size if group.fixed else 1
    for old, new in partition.residual:
        for source, target, a, b in paired_groups(made, old, new):
            if source == target and not np.array_equal(a, b):
                made.groups[source].rigid = made.groups[source].size
            elif source != target and not np.array_equal(a, b):
                for number in (source, target):
                    made.groups[number].rigid = made.groups[number].size
    for (child, parent), rigid in partition.related:
        for inner, outer, a, b in paired_groups(made, child, parent):
            if inner == outer:
                made.groups[inner].rigid = made.groups[inner].size
                continue
            slices = common_slices(made.groups[inner].size, made.groups[outer].size, a, b)
            _bind(made.groups[inner], slices, rigid=rigid or slices < made.groups[outer].size)
            _bind(made.groups[outer], slices, rigid=slices < made.groups[outer].size)


def _bind(group: Group, slices: int, *, rigid: bool) -> None:
    run = group.size // slices
    if not rigid or group.rigid % run == 0:
        return
    group.rigid = run if run % group.rigid == 0 else group.size


def common_slices(inner: int, outer: int, a: Ints, b: Ints) -> int:
    """Into how many slices two groups can be cut at most, so that children and parents are in the same.

    Args:
        inner: size of the children's group.
        outer: size of the parents' group.
        a: places of the children.
        b: places of their parents.

    Returns:
        A common divisor of both sizes.
    """
    for slices in sorted((n for n in range(1, outer + 1) if outer % n == 0 and inner % n == 0), reverse=True):
        if np.array_equal(a // (inner // slices), b // (outer // slices)):
            return slices
    return 1
