"""From groups of neurons to the neural graph: a block for every part of a parameter that joins two groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ninokit.errors import GraphError
from ninokit.graph.builder import MAX_TAPS
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.lattice import Axis, Digit
from ninokit.graph.structure import Edges, NeuralGraph, Neurons, SharedEnd
from ninokit.graph.tracing.elements import Base, Elements
from ninokit.graph.tracing.grouping import Grouping, Series, common_slices, digits_of, paired_groups
from ninokit.graph.tracing.neurons import Ints, Layer, Neurality
from ninokit.graph.views import View

__all__ = ["UnevenError", "assemble"]


def assemble(
    found: Neurality,
    made: Grouping,
    elements: Elements,
    left_out: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    apart: Collection[str] = (),
) -> NeuralGraph:
    """The neural graph.

    Args:
        found: neurons and parameters.
        made: the groups.
        elements: all facts of the trace.
        left_out: parameters that the network does not use.
        shapes: of the others.
        apart: parameters of which no block has several places of a neuron as taps.

    Returns:
        A graph that covers each parameter but those that are left out.
    """
    import torch

    assembly = _Assembly(found, made, elements, apart)
    for layer in found.layers:
        try:
            assembly.add(layer)
        except GraphError as error:
            raise UnevenError(layer.name) from error
    assembly.structure()
    kept = assembly.connected()
    roles = {name: role for name, role in assembly.roles.items() if name in {group.name for group in kept}}
    sizes = {name: torch.Size(shape) for name, shape in shapes.items()}
    return NeuralGraph(tuple(kept), tuple(assembly.blocks), sizes, roles=roles, left_out=tuple(left_out))


class UnevenError(Exception):
    """A parameter numbers groups in a way that no view can read.

    Args:
        parameter: its name.
    """

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


@dataclass(frozen=True)
class _Side:
    """Where one dimension of a parameter meets a group.

    Attributes:
        neurons: the group.
        start: the index of its first neuron.
        digits: (size, stride) of the others, outermost first.
        taps: (size, stride) of the places of each neuron, if it has several.
        kind: of the edges that enter it, where a parameter writes to it.
    """

    neurons: Neurons
    start: int
    digits: tuple[tuple[int, int], ...]
    taps: tuple[tuple[int, int], ...] = ()
    kind: EdgeKind | None = None


class _Assembly:
    """A neural graph grown parameter by parameter."""

    def __init__(self, found: Neurality, made: Grouping, elements: Elements, apart: Collection[str]) -> None:
        self._found, self._made, self._elements, self._apart = found, made, elements, apart
        self._base_names = _layer_names(found.layers)
        self.neurons: list[Neurons] = []
        self.blocks: list[Edges] = []
        self.roles: dict[str, str] = {}
        self._taken: dict[str, int] = {}
        self._single: dict[str, Neurons] = {}  # by the module whose output has one number
        self._groups = [self._name_group(number) for number in range(len(made.groups))]

    def add(self, layer: Layer) -> None:
        """The blocks of a parameter."""
        if layer.src is not None and layer.dst is not None and max(layer.src.slices, layer.dst.slices) > 1:
            self._add_sliced(layer, layer.src, layer.dst)
            return
        targets = list(self._targets(layer))
        for target in targets:
            if layer.src is None:
                make = self._rows if layer.rows else self._extra
                self._join(layer, target, make(layer, target, several=len(targets) > 1))
                continue
            for source in self._sources(layer.src):
                self._join(layer, target, source)

    def structure(self) -> None:
        """What is added to what, and which neurons belong to which heads."""
        joined: set[tuple[int, int]] = set()
        chains = _Chains()
        for old, new in self._elements.residual:
            for source, target, a, b in self._pairs(old.numpy(), new.numpy()):
                self._sum(source, target, joined, in_order=np.array_equal(a, b))
                chains.join(source, target)
        for old, new in self._elements.tied:  # what sums tie already needs no more edges
            for source, target, a, b in self._pairs(old.numpy(), new.numpy()):
                if chains.join(source, target):
                    self._sum(source, target, joined, in_order=np.array_equal(a, b))
        for relation in self._elements.relations:
            for inner, outer, a, b in self._pairs(relation.child.numpy(), relation.parent.numpy()):
                if inner != outer and (inner, outer) not in joined:
                    joined.add((inner, outer))
                    self._belong(inner, outer, a, b)

    def connected(self) -> list[Neurons]:
        """The groups that edges join; others nothing is known of."""
        names = {group.name for block in self.blocks for group in (block.src, block.dst)}
        return [group for group in self.neurons if group.name in names]

    def _sum(self, source: int, target: int, joined: set[tuple[int, int]], *, in_order: bool) -> None:
        """Neurons added to others. Groups that meet in another order both keep theirs; it is shown that they meet."""
        if source != target and {(source, target), (target, source)}.isdisjoint(joined):
            joined.add((source, target))
            ends = self._groups[source], self._groups[target]
            self.blocks.append(Edges(EdgeKind.RESIDUAL, *ends, groups=ends[0].size if in_order else 1))

    def _belong(self, inner: int, outer: int, a: Ints, b: Ints) -> None:
        child, parent = self._groups[inner], self._groups[outer]
        slices = common_slices(child.size, parent.size, a, b)
        if slices == child.size == parent.size:  # the sum of several
            self.blocks.append(Edges(EdgeKind.RESIDUAL, child, parent, groups=slices))
        else:
            self.blocks.append(Edges(EdgeKind.ATTENTION_HEAD, parent, child, groups=slices))

    def _pairs(self, first: Ints, second: Ints) -> Iterator[tuple[int, int, Ints, Ints]]:
        node = self._found.node
        pairs = np.unique(np.stack([node[first], node[second]]), axis=1)
        return paired_groups(self._made, pairs[0], pairs[1])

    # Groups and their names.

    def _name_group(self, number: int) -> Neurons:
        group = self._made.groups[number]
        written = [s for s in group.series if s.base.born is not None or not s.base.contracted]
        named = min(written or group.series, key=lambda s: s.base.start, default=None)
        if named is None:
            name = self._parent_name(number)
        else:
            name = self._base_names.get(named.base.parameter or "", "")
            if named.base.contracted and named.base.born is None:
                name = f"(input of {name})" if name else "(input)"
            if len(self._made.series[named.base.start]) > 1:
                name += _range(named.positions)
        neurons = self._neurons(name or "(output)", group.size, group.rigid)
        reasons = {why for node in group.nodes.tolist() for why in self._found.reasons.get(node, ())}
        if group.fixed and reasons:
            self.roles[neurons.name] = "input and output" if len(reasons) > 1 else reasons.pop()
        return neurons

    def _parent_name(self, number: int) -> str:
        """The name of heads, after the first of what belongs to them."""
        for relation in self._elements.relations:
            child, parent = self._found.node[relation.child.numpy()], self._found.node[relation.parent.numpy()]
            mine = np.flatnonzero(self._made.of_node[parent] == number)
            if len(mine):
                inner = self._made.of_node[child[mine[0]]]
                series = self._made.groups[inner].series if inner >= 0 else []
                owner = next((s.base.parameter for s in series if s.base.parameter), None)
                return f"{self._base_names.get(owner or '', '') or '(heads)'}.heads"
        return "(heads)"

    def _neurons(self, name: str, size: int, rigid: int = 1) -> Neurons:
        count = self._taken.get(name, 0)
        self._taken[name] = count + 1
        made = Neurons(name if not count else f"{name}#{count + 1}", size, rigid)
        self.neurons.append(made)
        return made

    def _extra(self, layer: Layer, target: _Side, *, several: bool) -> _Side:
        name = f"{layer.name}[{target.neurons.name}]" if several else layer.name
        return _Side(self._neurons(name, 1), 0, ())

    def _rows(self, layer: Layer, target: _Side, *, several: bool) -> _Side:
        size = int(np.prod([layer.shape[dim] for dim in layer.rows]))
        name = f"{layer.name}[rows of {target.neurons.name}]" if several else f"{layer.name}[rows]"
        return _Side(self._neurons(name, size, size), 0, ())

    # Blocks of parameters.

    def _targets(self, layer: Layer) -> Iterator[_Side]:
        """What a parameter writes to."""
        if layer.dst is None:
            yield _Side(self._single_output(layer), 0, ())
            return
        for number, series in self._made.series.get(layer.dst.start, []):
            digits = tuple(digits_of(series.positions) or ())
            kind = layer.kind_at(series.positions, self._found.marks)
            yield _Side(self._groups[number], int(series.positions[0]), digits, kind=kind)

    def _single_output(self, layer: Layer) -> Neurons:
        """The one neuron that a parameter writes to: weight and bias of a module to the same."""
        name = self._base_names[layer.name] or "(output)"
        if name not in self._single:
            self._single[name] = self._neurons(name, 1)
        return self._single[name]

    def _sources(self, base: Base) -> Iterator[_Side]:
        """The groups along a dimension, several places of one as taps where they are evenly spaced."""
        by_group: dict[int, list[Series]] = {}
        for number, series in self._made.series.get(base.start, []):
            by_group.setdefault(number, []).append(series)
        for number, several in ((n, run) for n, found in by_group.items() for run in _runs(found)):
            merged = _merge(several) if len(several) > 1 and base.parameter not in self._apart else None
            if merged is not None:
                start, digits, places = merged
                yield _Side(self._groups[number], start, digits, places)
                continue
            for series in several:
                yield _Side(self._groups[number], int(series.positions[0]), tuple(digits_of(series.positions) or ()))

    def _join(self, layer: Layer, target: _Side, source: _Side) -> None:
        two = [side for side in (target, source) if len(side.digits) > 1]
        groups = 1
        shared: SharedEnd | None = None
        if two:
            groups = two[0].digits[0][0]
            shared = "src" if two[0] is target else "dst"
        axes = []
        for dim, size in enumerate(layer.shape):
            if layer.dst is not None and dim == layer.dst.dim:
                axes.append(_axis(target, "dst"))
            elif layer.src is not None and dim == layer.src.dim:
                axes.append(_axis(source, "src"))
            elif dim in layer.rows:
                axes.append(Axis(0, (Digit("src", size),)))
            else:
                axes.append(Axis(0, (Digit("tap" if size > 1 else "1", size),)))
        self._block(layer, target.kind or layer.kind, (target.neurons, source.neurons), axes, groups, shared)

    def _add_sliced(self, layer: Layer, src: Base, dst: Base) -> None:
        """A weight whose slices join slices of the channels."""
        (rows, row_label), (columns, column_label) = (
            ((dst, "dst"), (src, "src")) if src.slices > 1 else ((src, "src"), (dst, "dst"))
        )
        slices = columns.slices
        beside: dict[int, list[tuple[int, _Slices]]] = defaultdict(list)  # a slice → groups that have a part in it
        for other, column in self._made.series.get(columns.start, []):
            second = _in_slices(column.positions, columns.size // slices)
            for number in second.numbers:
                beside[number].append((other, second))
        for one, row in self._made.series.get(rows.start, []):
            first = _in_slices(row.positions, rows.size // slices)
            for other, second in beside[first.numbers[0]]:
                if first.numbers != second.numbers:
                    raise GraphError(f"{layer.name}: its slices are cut unevenly")
                axes = [_slice_axis(first, row_label, rows.size // slices), _offset_axis(second, column_label)]
                axes += [Axis(0, (Digit("tap" if size > 1 else "1", size),)) for size in layer.shape[2:]]
                ends = {row_label: self._groups[one], column_label: self._groups[other]}
                self._block(layer, layer.kind, (ends["dst"], ends["src"]), axes, len(first.numbers), None)

    def _block(
        self,
        layer: Layer,
        kind: EdgeKind,
        ends: tuple[Neurons, Neurons],
        axes: list[Axis],
        groups: int,
        shared: SharedEnd | None,
    ) -> None:
        dst, src = ends
        if kind is EdgeKind.KEY:  # keys lead from the queries that they are paired with back to what they read
            dst, src = src, dst
            axes = [_swapped(axis) for axis in axes]
            shared = "dst" if shared == "src" else "src" if shared == "dst" else None
        view = View.of(layer.shape, axes)
        for start in range(0, view.taps[1], MAX_TAPS):
            part = replace(view, taps=(start, min(start + MAX_TAPS, view.taps[1])))
            self.blocks.append(Edges(kind, src, dst, groups, layer.name, part, shared))


class _Chains:
    """Groups that sums join, directly or over others."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def join(self, first: int, second: int) -> bool:
        """Join two groups; whether they were apart."""
        a, b = self._end(first), self._end(second)
        if a == b:
            return False
        self._next[a] = b
        return True

    def _end(self, group: int) -> int:
        while group in self._next:
            group = self._next[group]
        return group


@dataclass(frozen=True)
class _Slices:
    numbers: tuple[int, ...]  # the slices that a group has a part in
    start: int  # the first offset in each
    inner: tuple[tuple[int, int], ...]  # (size, stride) of the offsets


def _in_slices(positions: Ints, width: int) -> _Slices:
    slices, offsets = positions // width, positions % width
    numbers = tuple(dict.fromkeys(slices.tolist()))
    run = offsets[: len(positions) // len(numbers)]
    return _Slices(numbers, int(run[0]), tuple(digits_of(run) or ()))


def _slice_axis(part: _Slices, label: str, width: int) -> Axis:
    digits = [Digit(label, size, stride) for size, stride in part.inner]
    if len(part.numbers) > 1:
        step = part.numbers[1] - part.numbers[0]
        digits.insert(0, Digit("group", len(part.numbers), step * width))
    return Axis(part.numbers[0] * width + part.start, tuple(digits) or (Digit("1", 1),))


def _offset_axis(part: _Slices, label: str) -> Axis:
    return Axis(part.start, tuple(Digit(label, size, stride) for size, stride in part.inner) or (Digit("1", 1),))


def _axis(side: _Side, label: str) -> Axis:
    labelled = [(stride, Digit(label, size, stride)) for size, stride in side.digits]
    if len(side.digits) > 1:
        outer_size, outer_stride = side.digits[0]
        labelled[0] = (outer_stride, Digit("group", outer_size, outer_stride))
    labelled += [(stride, Digit("tap", size, stride)) for size, stride in side.taps]
    digits = tuple(digit for _, digit in sorted(labelled, key=lambda pair: -pair[0]))
    return Axis(side.start, digits or (Digit("1", 1),))


def _swapped(axis: Axis) -> Axis:
    names = {"src": "dst", "dst": "src"}
    return Axis(axis.start, tuple(digit._replace(label=names.get(digit.label, digit.label)) for digit in axis.digits))


def _merge(several: Sequence[Series]) -> tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]] | None:
    """The places of a group's neurons as taps: start, digits of the neurons, digits of the places."""
    positions = np.stack([series.positions for series in several])  # shape (places, neurons)
    offsets = positions[:, 0]
    digits, places = digits_of(positions[0]), digits_of(offsets)
    if digits is None or places is None or (positions - offsets[:, None] != positions[0] - offsets[0]).any():
        return None
    if len(digits) > 2 or not _nested([*digits, *places]):
        return None
    return int(offsets[0]), tuple(digits), tuple(places)


def _runs(several: Sequence[Series]) -> list[Sequence[Series]]:
    """The places of a group's neurons in runs that are one progression each, which is what one view can read."""
    merged = _merge(several) if len(several) > 1 else None
    if merged is None or len(merged[2]) < 2:
        return [several]
    size = merged[2][-1][0]
    return [several[start : start + size] for start in range(0, len(several), size)]


def _nested(digits: Sequence[tuple[int, int]]) -> bool:
    reach = 0
    for size, stride in sorted(digits, key=lambda digit: digit[1]):
        if stride <= reach:
            return False
        reach += (size - 1) * stride
    return True


def _range(positions: Ints) -> str:
    first, last = int(positions[0]), int(positions[-1])
    return f"[{first}]" if len(positions) == 1 else f"[{first}:{last + 1}]"


def _layer_names(layers: Sequence[Layer]) -> dict[str, str]:
    """The modules that parameters belong to, or the parameters themselves where they are no weight or bias."""
    names = {}
    for layer in layers:
        module, _, own = layer.name.rpartition(".")
        names[layer.name] = module if own in {"weight", "bias"} else layer.name
    return names
