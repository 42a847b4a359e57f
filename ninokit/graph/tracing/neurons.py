"""From elements to neurons: what the facts of a trace amount to.

Index legend: e = elements, n = neurons; a neuron is a class of elements that the trace found to be the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.tracing.elements import Base, Elements

__all__ = ["Layer", "Neurality", "mix", "resolve"]

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass
class Layer:
    """A parameter, and what its dimensions number.

    Attributes:
        name: of the parameter.
        shape: its shape.
        usage: what it is used as.
        src: the neurons that it reads; None for an extra node, or for rows.
        dst: the neurons that it writes to; None for one that numbers no neurons.
        rows: dimensions that number the rows of a table.
        taps: dimensions that number positions.
        kind: of its edges.
    """

    name: str
    shape: tuple[int, ...]
    usage: str
    src: Base | None = None
    dst: Base | None = None
    rows: list[int] = field(default_factory=list)
    taps: list[int] = field(default_factory=list)
    kind: EdgeKind = EdgeKind.BIAS

    def kind_at(self, positions: Ints, marks: Ints) -> EdgeKind:
        """The kind of the edges to some of its outputs, which an attention may use as others than the rest.

        Args:
            positions: of the outputs.
            marks: for each element what an attention uses it as, 0 for nothing.
        """
        if self.dst is None or self.kind not in {EdgeKind.LINEAR, EdgeKind.CONVOLUTION}:
            return self.kind
        found = np.unique(marks[self.dst.start + positions])
        return EdgeKind(int(found[0])) if len(found) == 1 and found[0] else self.kind


@dataclass
class Neurality:
    """What has been resolved.

    Attributes:
        node: shape (e,), the neuron of each element.
        place: shape (e,), at which place of its neuron an element of a parameter stands.
        fixed: shape (n,), whether a neuron keeps its place.
        reasons: neuron → why, of those that are fixed.
        colour: shape (n,), neurons of different numbers are not interchangeable.
        marks: shape (e,), what an attention uses an element as, 0 for nothing.
        layers: the parameters.
    """

    node: Ints
    place: Ints
    fixed: npt.NDArray[np.bool_]
    reasons: dict[int, set[str]]
    colour: Hashes
    marks: Ints
    layers: list[Layer]


def mix(values: npt.ArrayLike, salt: int) -> Hashes:
    """Well-mixed 64-bit numbers (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        z = np.asarray(values).astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % (1 << 64))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def resolve(elements: Elements, shapes: Mapping[str, tuple[int, ...]], opaque: Collection[str] = ()) -> Neurality:
    """Work out what the facts amount to.

    Args:
        elements: all that has been noted.
        shapes: of the parameters that the network uses.
        opaque: parameters that join no neurons as a view could read it; all that they number keeps its order.

    Returns:
        Neurons, and the parameters that join them.
    """
    node = _components(elements.count, [(a.numpy(), b.numpy()) for a, b in elements.same])
    node = _merge_parents(elements, node)
    is_fixed = np.zeros(elements.count, bool)
    for found, _ in elements.fixed:
        is_fixed[node[found.numpy()]] = True
    place = _places(elements, node, is_fixed)
    by_parameter: dict[str, list[Base]] = defaultdict(list)
    for base in elements.bases:
        if base.parameter is not None:
            by_parameter[base.parameter].append(base)
    stuck = is_fixed[node]
    layers = [
        _layer(name, shape, by_parameter[name], elements.usages.get(name, "shift"), stuck)
        if name not in opaque
        else Layer(name, shape, "shift", rows=list(range(len(shape))), kind=EdgeKind.POSITION_EMBEDDING)
        for name, shape in shapes.items()
    ]
    for layer in layers:
        _fix_rest(layer, by_parameter[layer.name], node, is_fixed)
    _spread_fixed(elements, node, layers, is_fixed)
    reasons: dict[int, set[str]] = defaultdict(set)
    for found, why in elements.fixed:
        if why in {"input", "output"}:
            for number in np.unique(node[found.numpy()]).tolist():
                reasons[number].add(why)
    colour = np.zeros(elements.count, np.uint64)
    for found, values in elements.colours:
        np.add.at(colour, node[found.numpy()], values.numpy().view(np.uint64))
    _forget_inside(elements, node, colour)
    return Neurality(node, place, is_fixed, reasons, colour, _marks(elements), layers)


def _spread_fixed(elements: Elements, node: Ints, layers: list[Layer], is_fixed: npt.NDArray[np.bool_]) -> None:
    """What is bound to neurons that keep their order keeps its own, where the graph has no nodes that would say so."""
    shown = np.zeros(elements.count, bool)
    for layer in layers:
        for base in (layer.src, layer.dst):
            if base is not None:
                shown[node[base.start : base.start + base.size]] = True
    sums = [(node[a.numpy()], node[b.numpy()]) for a, b in (*elements.residual, *elements.tied)]
    ties = [*sums, *((b, a) for a, b in sums)]
    ties += [(node[r.child.numpy()], node[r.parent.numpy()]) for r in elements.relations]
    ties += [(node[r.parent.numpy()], node[r.child.numpy()]) for r in elements.relations if r.rigid]
    ties = [(a[hidden], b[hidden]) for a, b in ties for hidden in [~(shown[a] & shown[b])]]
    count = -1
    while count != is_fixed.sum():
        count = is_fixed.sum()
        for first, second in ties:
            is_fixed[second[is_fixed[first]]] = True


def _forget_inside(elements: Elements, node: Ints, colour: Hashes) -> None:
    """In runs that keep their order anyway only the pattern of colours counts, which is one for the whole run."""
    for relation in elements.relations:
        if not relation.rigid:
            continue
        child, parent = node[relation.child.numpy()], node[relation.parent.numpy()]
        order = np.lexsort((child, parent))
        child, parent = child[order], parent[order]
        starts = np.flatnonzero(np.diff(parent, prepend=-1))
        counts = np.diff(np.append(starts, len(parent)))
        ranks = np.arange(len(parent)) - np.repeat(starts, counts)
        with np.errstate(over="ignore"):
            patterns = np.add.reduceat(mix(colour[child], 5) * (2 * ranks.astype(np.uint64) + np.uint64(1)), starts)
        colour[child] = np.repeat(patterns, counts)


def _components(count: int, pairs: list[tuple[Ints, Ints]]) -> Ints:
    """The smallest element that each is connected with."""
    label = np.arange(count)
    if not pairs:
        return label
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    while True:
        low = np.minimum(label[a], label[b])
        before = label.copy()
        for side in (a, b):
            np.minimum.at(label, before[side], low)
            np.minimum.at(label, side, low)
        label = label[label]
        if np.array_equal(before, label):
            return label


def _merge_parents(elements: Elements, node: Ints) -> Ints:
    """Heads found twice, by two operators, are the same if the same neurons belong to them."""
    found: dict[tuple[bytes, bytes], Ints] = {}
    pairs = []
    for relation in elements.relations:
        child, parent = node[relation.child.numpy()], node[relation.parent.numpy()]
        order = np.argsort(child, kind="stable")
        child, parent = child[order], parent[order]
        _, first, number = np.unique(parent, return_index=True, return_inverse=True)
        key = child.tobytes(), first[number].tobytes()
        if key in found:
            pairs.append((found[key], parent))
        else:
            found[key] = parent
    known = np.arange(elements.count)
    return _components(elements.count, [(known, node), *pairs])


def _places(elements: Elements, node: Ints, is_fixed: npt.NDArray[np.bool_]) -> Ints:
    place = np.full(elements.count, -1, np.int64)
    for found, places in elements.places:
        e, p = found.numpy(), places.numpy()
        clash = (place[e] >= 0) & (place[e] != p)
        is_fixed[node[e[clash]]] = True  # it stands at several places, depending on who reads
        place[e] = np.where(place[e] >= 0, place[e], p)
    return np.maximum(place, 0)


def _marks(elements: Elements) -> Ints:
    """What an attention uses elements as; those whose order is fixed inside of a head, as the head."""
    kinds = np.zeros(elements.count, np.int64)
    for found, kind in elements.kinds:
        e = found.numpy()
        kinds[e] = np.where(kinds[e] == 0, int(kind), kinds[e])
    for relation in reversed(elements.relations):
        if relation.rigid:
            child, parent = relation.child.numpy(), relation.parent.numpy()
            kinds[child] = np.where(kinds[child] == 0, kinds[parent], kinds[child])
    return kinds


def _layer(
    name: str, shape: tuple[int, ...], numbered: list[Base], usage: str, is_fixed: npt.NDArray[np.bool_]
) -> Layer:
    layer = Layer(name, shape, usage)
    bases = sorted((base for base in numbered if not base.kernel), key=lambda base: base.dim)
    named = {base.dim for base in bases}
    layer.taps = [dim for dim, size in enumerate(shape) if size > 1 and dim not in named and not _sliced(dim, bases)]
    read = [base for base in bases if base.contracted]
    free = [base for base in bases if not base.contracted and not is_fixed[base.start : base.start + base.size].all()]
    stuck = [base for base in bases if base not in read and base not in free]
    if read:
        layer.src = read[0]
        written = free or [base for base in stuck if base.born is not None] or stuck
        layer.dst = written[-1] if written else None
        rest = [base for base in bases if base not in (layer.src, layer.dst)]
        layer.taps += [base.dim for base in rest]
    elif len(free) > 1:
        layer.src, layer.dst = free[0], free[-1]
        layer.taps += [base.dim for base in bases if base not in (layer.src, layer.dst)]
    else:
        layer.dst = free[0] if free else (stuck.pop() if stuck else None)
        (layer.taps if layer.usage == "norm" else layer.rows).extend(base.dim for base in stuck)
    if len(layer.rows) > 1 and layer.rows != list(range(layer.rows[0], layer.rows[-1] + 1)):
        layer.taps += layer.rows[:-1]
        layer.rows = layer.rows[-1:]
    layer.taps.sort()
    layer.kind = _kind(layer)
    return layer


def _sliced(dim: int, bases: list[Base]) -> bool:
    return any(base.slices > 1 and base.dim == dim for base in bases)


def _fix_rest(layer: Layer, bases: list[Base], node: Ints, is_fixed: npt.NDArray[np.bool_]) -> None:
    """Dimensions that are read as taps or rows keep their order."""
    for base in bases:
        if base is not layer.src and base is not layer.dst:
            is_fixed[node[base.start : base.start + base.size]] = True


def _kind(layer: Layer) -> EdgeKind:
    if layer.usage == "shift" and layer.rows:
        return EdgeKind.POSITION_EMBEDDING
    if layer.usage in {"norm", "scale"} and layer.src is not None:
        return EdgeKind.BIAS
    return _KINDS[layer.usage]


_KINDS = {
    "linear": EdgeKind.LINEAR,
    "convolution": EdgeKind.CONVOLUTION,
    "token": EdgeKind.TOKEN_EMBEDDING,
    "position": EdgeKind.POSITION_EMBEDDING,
    "norm": EdgeKind.NORM_SCALE,
    "scale": EdgeKind.NORM_SCALE,
    "shift": EdgeKind.BIAS,
}
