"""Small changes of a neural graph, among which is the repair of a graph with one fault."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations, islice, permutations, product

import torch

from ninokit.errors import GraphError
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.lattice import Axis
from ninokit.graph.structure import Edges, NeuralGraph, Neurons
from ninokit.graph.symmetry import Cut, Symmetry
from ninokit.graph.views import View

__all__ = ["Repair", "repairs"]

_MAX_LISTED = 4
_MAX_OF_A_FAMILY = 300  # each costs a run of the network or more
_ELSEWHERE = "(elsewhere)"

End = tuple[Edges, str]  # a block, and "src" or "dst"


@dataclass(frozen=True)
class Repair:
    """A changed graph.

    Args:
        culprits: what was changed: parameters; where it is none, structural edges or groups.
        advice: the change in words.
        graph: the result.
    """

    culprits: tuple[str, ...]
    advice: str
    graph: NeuralGraph


def repairs(graph: NeuralGraph, symmetry: Symmetry, suspects: Set[str]) -> list[Iterator[Repair]]:
    """Changes of a graph near neurons that it calls interchangeable and that are not.

    Args:
        graph: a wrong graph.
        symmetry: the permutations that it allows.
        suspects: the names of the groups of these neurons.

    Returns:
        Families of changes, the smallest first: a parameter or structural edges with an end at other neurons; axes
        read otherwise; another number of heads; the parameters of a module at other neurons; two parameters or
        modules exchanged; a tie; neurons that keep their order. At most some hundreds of each.
    """
    place = _Place(graph, symmetry, suspects)
    families = [
        place.ends(_parameter_end),
        place.axes(),
        place.slices(),
        place.ends(_module_end),
        # Before the ties: neurons of exchanged parameters are interchangeable too if they move alike.
        place.exchanges(_names_alone(graph)),
        place.exchanges(_names_by_module(graph)),
        place.ties(),
        place.runs(),
    ]
    return [islice(family, _MAX_OF_A_FAMILY) for family in families]


class _Place:
    """The part of a graph where its fault is."""

    def __init__(self, graph: NeuralGraph, symmetry: Symmetry, suspects: Set[str]) -> None:
        self._graph = graph
        self._suspects = suspects
        self._fixed = symmetry.fixed.keys()
        self._leaf = {name: cut for cut in symmetry.cuts for name in cut.leaves}
        # Neurons that are tied one by one are the same to a block: the first group stands for all.
        chosen: dict[Cut, Neurons] = {}
        for group in graph.neurons:
            if group.name in suspects and group.size > 1:
                chosen.setdefault(self._leaf[group.name], group)
        self._targets = list(chosen.values())

    def ends(self, unit: Callable[[End], Hashable]) -> Iterator[Repair]:
        """Ends of blocks at other neurons: suspects, or some that never move."""
        units: dict[Hashable, list[End]] = defaultdict(list)
        for block in self._graph.edges:
            for end in ("dst", "src"):
                if _group((block, end)).name in self._suspects | self._fixed:
                    units[unit((block, end))].append((block, end))
        units.pop(None, None)
        for ends in units.values():
            old = _group(ends[0])
            for target in self._targets:
                if target.size == old.size and self._leaf[target.name] is not self._leaf[old.name]:
                    yield self._rewire(ends, target, f"wired to {target.name!r} in place of {old.name!r}")
            if old.name in self._suspects:
                yield self._rewire(ends, Neurons(_ELSEWHERE, old.size, old.size), f"if unmoved when {old.name!r} is")

    def axes(self) -> Iterator[Repair]:
        """Parameters whose axes are read otherwise."""
        units: dict[tuple[str, tuple[Axis, ...]], list[Edges]] = defaultdict(list)
        for block in self._graph.edges:
            if block.parameter and block.view and not self._suspects.isdisjoint({block.src.name, block.dst.name}):
                units[block.parameter, block.view.axes].append(block)
        for (parameter, axes), blocks in units.items():
            shape = self._graph.parameters[parameter]
            old = View.of(shape, axes)
            for new in _readings(old, shape):
                changed = {id(b): replace(b, view=replace(b.view, axes=new.axes)) for b in blocks if b.view}
                yield _repair(blocks, f"read as {new.spelled!r} in place of {old.spelled!r}", self._with(changed))

    def slices(self) -> Iterator[Repair]:
        """Nodes of attention heads of another number."""
        units: dict[Neurons, list[Edges]] = defaultdict(list)
        for block in self._graph.edges:
            units[block.src].append(block)
        numbered = {block.dst for block in self._graph.edges}  # by what enters them
        for heads, blocks in units.items():
            near = any(block.dst.name in self._suspects for block in blocks)
            if not near or heads in numbered or any(block.kind is not EdgeKind.ATTENTION_HEAD for block in blocks):
                continue
            for number in _divisors(*(block.dst.size for block in blocks)):
                if number != heads.size:
                    other = Neurons(heads.name, number)
                    changed = {id(block): replace(block, src=other, groups=number) for block in blocks}
                    how = f"with {number} slices in place of {heads.size}"
                    yield _repair(blocks, how, self._with(changed, replaced={heads: other}))

    def ties(self) -> Iterator[Repair]:
        """Structural edges between suspects."""
        for first, second in combinations(self._targets, 2):
            for number in _divisors(first.size, second.size):
                tie = Edges(EdgeKind.RESIDUAL, first, second, number)
                graph = replace(self._graph, edges=(*self._graph.edges, tie))
                advice = (
                    f"neurons {first.name!r} and {second.name!r}; "
                    f"tied by structural edges with groups={number}, they are interchangeable"
                )
                yield Repair((first.name, second.name), advice, graph)

    def exchanges(self, units: Mapping[str, Sequence[str]]) -> Iterator[Repair]:
        """Parameters, or all those of a module, in each other's place."""
        shapes, blocks = self._graph.parameters, self._graph.blocks
        ends = {name: {group for b in blocks[name] for group in (b.src.name, b.dst.name)} for name in shapes}
        near = {name for name in shapes if ends[name] & (self._suspects | self._fixed)}
        broken = {name for name in shapes if ends[name] & self._suspects}
        for one, other in combinations([names for names in units.values() if near.issuperset(names)], 2):
            alike = [shapes[name] for name in one] == [shapes[name] for name in other]
            if alike and not broken.isdisjoint([*one, *other]):
                names = {**dict(zip(one, other, strict=True)), **dict(zip(other, one, strict=True))}
                changed = {
                    id(block): replace(block, parameter=new) for old, new in names.items() for block in blocks[old]
                }
                yield _repair([b for name in names for b in blocks[name]], "exchanged", self._with(changed))

    def runs(self) -> Iterator[Repair]:
        """Suspects that move in rigid runs."""
        for group in self._targets:
            for run in _divisors(group.size):
                if group.rigid < run < group.size:
                    rigid = replace(group, rigid=run)
                    advice = f"neurons {group.name!r}; declared with rigid={run}, they are interchangeable"
                    yield Repair((group.name,), advice, self._with({}, replaced={group: rigid}))

    def _rewire(self, ends: Sequence[End], target: Neurons, how: str) -> Repair:
        changed: dict[int, Edges] = {}
        for block, end in ends:
            before = changed.get(id(block), block)
            changed[id(block)] = replace(before, dst=target) if end == "dst" else replace(before, src=target)
        added = () if target in self._graph.neurons else (target,)
        return _repair([block for block, _ in ends], how, self._with(changed, added=added))

    def _with(
        self,
        changed: Mapping[int, Edges],
        *,
        replaced: Mapping[Neurons, Neurons] | None = None,
        added: Iterable[Neurons] = (),
    ) -> NeuralGraph:
        """The graph with other blocks (by the id of the old) and groups."""
        new = replaced or {}
        neurons = (*(new.get(group, group) for group in self._graph.neurons), *added)
        blocks = [changed.get(id(block), block) for block in self._graph.edges]
        if new:
            blocks = [replace(b, src=new.get(b.src, b.src), dst=new.get(b.dst, b.dst)) for b in blocks]
        return NeuralGraph(neurons, tuple(blocks), self._graph.parameters, self._graph.roles, self._graph.left_out)


def _group(end: End) -> Neurons:
    block, side = end
    return block.dst if side == "dst" else block.src


def _parameter_end(end: End) -> Hashable:
    """What is wired as one: the blocks of a parameter that share an end, or a structural block."""
    block, side = end
    return block.label, side, _group(end).name


def _module_end(end: End) -> Hashable:
    """The parameters of a module that share an end."""
    return None if end[0].parameter is None else (end[0].parameter.rpartition(".")[0], _group(end).name)


def _names_alone(graph: NeuralGraph) -> dict[str, Sequence[str]]:
    return {name: [name] for name in graph.parameters}


def _names_by_module(graph: NeuralGraph) -> dict[str, Sequence[str]]:
    """Module name → its own parameters, where these are several."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in graph.parameters:
        found[name.rpartition(".")[0]].append(name)
    return {module: names for module, names in found.items() if len(names) > 1}


def _readings(view: View, shape: torch.Size) -> Iterator[View]:
    """Other readings of a parameter that give the same sizes: ends exchanged, factors in another order."""
    for names in ({}, {"dst": "src", "src": "dst"}):
        for axes in product(*(_orders(axis, names) for axis in view.axes)):
            try:
                other = View.of(shape, axes)
            except GraphError:  # it would need a copy
                continue
            if other.axes != view.axes and other.shape == view.shape:
                yield other


def _orders(axis: Axis, names: Mapping[str, str]) -> Iterable[Axis]:
    """The same indices of an axis, its factors renamed and in any order; in their own where there are gaps."""
    renamed = [digit._replace(label=names.get(digit.label, digit.label)) for digit in axis.digits]
    factors, step = [(digit.label, digit.size) for digit in renamed], axis.digits[-1].stride
    if Axis.split(factors, axis.start, step).digits != tuple(renamed):
        return [replace(axis, digits=tuple(renamed))]
    return [Axis.split(order, axis.start, step) for order in dict.fromkeys(permutations(factors))]


def _divisors(*numbers: int) -> list[int]:
    """Common divisors but 1, ascending."""
    common = math.gcd(*numbers)
    return [n for n in range(2, common + 1) if common % n == 0]


def _repair(blocks: Sequence[Edges], how: str, graph: NeuralGraph) -> Repair:
    labels = tuple(dict.fromkeys(block.label for block in blocks))
    return Repair(labels, f"{_described(blocks)}; {how}, the output stays", graph)


def _described(blocks: Sequence[Edges]) -> str:
    found = list(dict.fromkeys(_description(block) for block in blocks))
    return ", ".join(found[:_MAX_LISTED]) + (", …" if len(found) > _MAX_LISTED else "")


def _description(block: Edges) -> str:
    if block.parameter is None:
        return block.label
    ends = f"{block.src.name!r} ({block.src.size}) → {block.dst.name!r} ({block.dst.size})"
    return f"{block.parameter} on the {block.kind.name.lower()} edges {ends}"
