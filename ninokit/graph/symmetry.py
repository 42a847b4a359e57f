"""The permutations of neurons that leave a neural graph as it is.

A graph claims symmetries of its network: if the neurons of every group are put into another order, and each parameter
with them, through its view, then the network computes the same. Allowed are the permutations that carry every block
onto itself, and that leave the network's inputs and outputs where they are.

The algebra. A *cut* (X, n) is the group X as n equal runs of consecutive neurons; (X, size of X) are its neurons.

1. A dense block allows any permutation of its ends. One of n slices wants slices to go to slices, on both ends by one
   permutation of the n places: it *ties* (X, n) to (Y, n). A diagonal ties neuron to neuron.
2. Where m divides n, a permutation that respects (X, n) and (X, m) moves the m by what it does to the n. So if
   (X, n) is tied to (Y, n), then Y is cut into m as well, and (X, m) is tied to (Y, m).
3. Where neither of n and m divides the other, the cut into gcd(n, m) is respected too. Inside one of its slices the n
   and the m overlap like bricks, which leaves at most a reversal; here they keep their order, and so do the slices
   of the cut into lcm(n, m), which refines both.
4. Runs of r neurons that are rigid are a cut (X, size / r), inside of which every finer cut of X keeps its order. A
   group that is rigid as a whole stays, and with it all that is tied to it neuron by neuron.

By 2 and 3 the classes of tied cuts form a forest from coarse to fine, and a permutation is drawn from its roots: in
each slice of the parent, an order of the finer slices. For nested cuts these are all allowed permutations.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph

__all__ = ["VECTORS", "Cut", "Symmetry", "find_symmetry"]

VECTORS = frozenset({EdgeKind.BIAS, EdgeKind.NORM_SCALE})  # act on neurons, and carry no data from neuron to neuron

Node = tuple[str, int]  # a group's name, and into how many slices it is cut
Tie = tuple[Node, Node]


@dataclass(frozen=True, eq=False)
class Cut:
    """Groups cut into slices that move alike.

    Args:
        number: of slices a group.
        groups: names of the groups.
        parent: the next coarser cut of the same groups, None if there is none.
        ordered: whether the slices keep their order inside each of the parent's.
        leaves: those of the groups whose neurons the slices are, one a slice.
    """

    number: int
    groups: tuple[str, ...]
    parent: Cut | None
    ordered: bool
    leaves: tuple[str, ...]

    @property
    def step(self) -> int:
        """Slices in each slice of the parent."""
        return self.number // (self.parent.number if self.parent else 1)

    @property
    def free(self) -> bool:
        """Whether the slices may change places inside the parent's."""
        return not self.ordered and self.step > 1

    @property
    def label(self) -> str:
        """What moves, in words."""
        named = ", ".join(repr(name) for name in self.groups[:3]) + (", …" if len(self.groups) > 3 else "")
        return f"{self.number} {'neurons' if self.leaves == self.groups else 'slices'} of {named}"

    def coarser(self) -> Iterator[Cut]:
        """This cut and those above it."""
        cut: Cut | None = self
        while cut is not None:
            yield cut
            cut = cut.parent


@dataclass(frozen=True)
class Symmetry:
    """The permutations that a graph allows.

    Args:
        cuts: classes of tied cuts, coarse ones first.
        fixed: groups of more than one neuron that keep their order, and why.
        roles: names of the network's inputs and outputs, and which they are.
    """

    cuts: tuple[Cut, ...]
    fixed: Mapping[str, str]
    roles: Mapping[str, str]

    @cached_property
    def free(self) -> tuple[Cut, ...]:
        """The cuts whose slices may change places."""
        return tuple(cut for cut in self.cuts if cut.free)

    def draw(self, generator: torch.Generator, moving: Collection[Cut] | None = None) -> dict[str, Tensor]:
        """Random permutations.

        Args:
            generator: on the CPU.
            moving: the free cuts that move; left out, all of them. Each moves by a uniformly drawn permutation other
                than the identity.

        Returns:
            Group name → int64 tensor of shape (size,), the old neuron at each new place. Groups that stay are left out.

        Example:
            >>> import torch, ninokit
            >>> from ninokit.graph.symmetry import find_symmetry
            >>> graph = ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)))
            >>> find_symmetry(graph).draw(torch.Generator())
            {'0': tensor([1, 0])}
        """
        chosen = set(self.free if moving is None else moving)
        orders: dict[Cut, Tensor] = {}  # the identity is left out
        drawn = {}
        for cut in self.cuts:
            above = orders.get(cut.parent) if cut.parent else None
            if cut not in chosen and above is None:
                continue
            slices = cut.parent.number if cut.parent else 1
            above = torch.arange(slices) if above is None else above
            inside = _shuffle(slices, cut.step, generator) if cut in chosen else torch.arange(cut.step)
            orders[cut] = (above[:, None] * cut.step + inside).flatten()
            drawn.update(dict.fromkeys(cut.leaves, orders[cut]))
        return drawn


def find_symmetry(
    graph: NeuralGraph,
    *,
    reused: Collection[str] = (),
    roles: Mapping[str, str] | None = None,
) -> Symmetry:
    """The permutations that a graph allows.

    The cost grows with the number of groups and blocks, not of neurons or parameters.

    Args:
        graph: any neural graph.
        reused: parameters that several modules of the network share. Where the rows of a token embedding serve the
            output layer too, neurons that nothing else reads are read by it, and tied to the embedding's columns; not
            so where the graph knows its roles, as it then has the ties too.
        roles: inputs and outputs, if they are known; left out, they are the graph's own, or read off the graph.

    Returns:
        The symmetry.

    Example:
        >>> import torch, ninokit
        >>> from ninokit.graph.symmetry import find_symmetry
        >>> graph = ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 4)))
        >>> symmetry = find_symmetry(graph)
        >>> [cut.label for cut in symmetry.free], symmetry.fixed
        (["2 neurons of '0'"], {'(input)': 'input', '2': 'output'})
    """
    sizes = {group.name: group.size for group in graph.neurons if group.size > 1}
    runs = {group.name: group.size // group.rigid for group in graph.neurons if group.size > 1}
    known, read = (graph.roles, []) if graph.roles is not None else _read_off(graph, sizes, reused)
    roles = known if roles is None else roles
    rigid = {name: 1 if name in roles else runs[name] for name in sizes}
    cuts = _forest(sizes, rigid, [*_block_ties(graph.edges), *read])
    return Symmetry(cuts, _reasons(cuts, roles, rigid), roles)


# Inputs and outputs.


def _read_off(
    graph: NeuralGraph, names: Iterable[str], reused: Collection[str]
) -> tuple[Mapping[str, str], Sequence[Tie]]:
    """The roles of groups as the flow of the data tells them, and the ties of what a tied output layer reads."""
    entered, left = _flow(graph.edges)
    read = _read_by_tied_layer(graph, reused, entered, left)
    left |= {group for ((group, _), _) in read}
    ends = (name for name in names if not (name in entered and name in left))
    return {name: _role(name in entered, name in left) for name in ends}, read


def _flow(blocks: Iterable[Edges]) -> tuple[set[str], set[str]]:
    """The groups into which data comes over edges, and those from which it goes on."""
    entered, left = set(), set()
    blocks = [block for block in blocks if block.kind not in VECTORS]
    attending = {block.dst.name for block in blocks if block.kind in {EdgeKind.QUERY, EdgeKind.ATTENTION_HEAD}}
    for block in blocks:
        src, dst = block.src.name, block.dst.name
        # Heads are nodes of the structure alone; attention reads the others. Keys are drawn back to what they read.
        if block.kind is EdgeKind.ATTENTION_HEAD or (block.kind is EdgeKind.KEY and src in attending):
            entered.add(src)
            left |= {src, dst}
        else:
            entered.add(dst)
            left.add(src)
    return entered, left


def _read_by_tied_layer(graph: NeuralGraph, reused: Collection[str], entered: set[str], left: set[str]) -> list[Tie]:
    """Ties of the neurons that an output layer reads whose weight is that of a token embedding."""
    tables = [b for b in graph.edges if b.parameter in reused and b.kind is EdgeKind.TOKEN_EMBEDDING and b.src.size > 1]
    return [
        ((group.name, group.size), (table.dst.name, table.dst.size))
        for table in tables
        for group in graph.neurons
        if group.size == table.dst.size and group.name in entered and group.name not in left
    ]


def _role(entered: bool, left: bool) -> str:
    if not entered and not left:
        return "input and output"
    return "output" if entered else "input"


def _reasons(cuts: Iterable[Cut], roles: Mapping[str, str], rigid: Mapping[str, int]) -> dict[str, str]:
    """Why the groups that stay do."""
    stay = {name: cut for cut in cuts for name in cut.leaves if not any(above.free for above in cut.coarser())}
    reasons = {}
    for name in rigid:  # in the graph's order
        if name not in stay:
            continue
        tied = {other for cut in stay[name].coarser() for other in cut.groups}
        anchor = next((other for other in rigid if rigid[other] == 1 and other in tied), None)
        if rigid[name] == 1:
            reasons[name] = roles.get(name, "declared rigid")
        else:
            reasons[name] = "cut into slices that do not nest" if anchor is None else f"tied to {anchor!r}"
    return reasons


# Cuts, their ties, and the forest of their classes.


def _block_ties(blocks: Iterable[Edges]) -> Iterator[Tie]:
    for block in blocks:
        if block.pieces > 1:
            yield (block.src.name, block.pieces), (block.dst.name, block.pieces)


class _Classes:
    """Which cuts are tied: a partition of (group, number), refined no further than asked."""

    def __init__(self) -> None:
        self._of: dict[Node, set[Node]] = {}

    def __call__(self, node: Node) -> set[Node]:
        return self._of.setdefault(node, {node})

    def __iter__(self) -> Iterator[set[Node]]:
        yield from {id(members): members for members in self._of.values()}.values()

    def tie(self, first: Node, second: Node) -> bool:
        """Make two classes one; whether they were two."""
        small, large = sorted((self(first), self(second)), key=len)
        if small is large:
            return False
        large |= small
        self._of.update(dict.fromkeys(small, large))
        return True


def _forest(sizes: Mapping[str, int], runs: Mapping[str, int], ties: Iterable[Tie]) -> tuple[Cut, ...]:
    numbers = {name: {size, runs[name]} - {1} for name, size in sizes.items()}
    classes = _Classes()
    for first, second in ties:
        for name, number in (first, second):
            numbers[name].add(number)
        classes.tie(first, second)
    ordered = {(name, n) for name, size in sizes.items() for n in numbers[name] if _finer(n, runs[name])}
    while _nest(numbers, ordered) or _share(numbers, classes):
        ordered |= {(name, n) for name, found in numbers.items() for n in found if _finer(n, runs[name])}
    return _grow(sizes, numbers, ordered, classes)


def _finer(number: int, than: int) -> bool:
    return number > than and number % than == 0


def _nest(numbers: Mapping[str, set[int]], ordered: set[Node]) -> bool:
    """Rule 3, once for every pair of a group's cuts; whether a cut was new."""
    before = sum(map(len, numbers.values()))
    for name, found in numbers.items():
        for first, second in combinations(sorted(found), 2):
            if second % first:
                common = math.lcm(first, second)
                found |= {math.gcd(first, second), common}
                ordered |= {(name, first), (name, second), (name, common)}
        found.discard(1)
    return sum(map(len, numbers.values())) > before


def _share(numbers: Mapping[str, set[int]], classes: _Classes) -> bool:
    """Rule 2, once for every class; whether a tie was new."""
    new = False
    for members in [set(members) for members in classes if len(members) > 1]:
        number = next(iter(members))[1]
        coarser = {n for name, _ in members for n in numbers[name] if _finer(number, n)}
        for name, _ in members:
            numbers[name].update(coarser)
        first = next(iter(members))[0]
        for n in coarser:
            for name, _ in members:
                new |= classes.tie((first, n), (name, n))
    return new


def _grow(
    sizes: Mapping[str, int], numbers: Mapping[str, set[int]], ordered: set[Node], classes: _Classes
) -> tuple[Cut, ...]:
    for name, found in numbers.items():
        for n in found:
            classes((name, n))
    places = {name: place for place, name in enumerate(sizes)}
    cuts: dict[Node, Cut] = {}
    grown = []
    by_number = defaultdict(list)
    for members in classes:
        groups = tuple(sorted((name for name, _ in members), key=places.__getitem__))
        by_number[next(iter(members))[1]].append(groups)
    for number in sorted(by_number):
        for groups in sorted(by_number[number], key=lambda groups: places[groups[0]]):
            # Of several coarser cuts that do not nest any will do: the slices keep their order in all of them.
            above = max((n for n in numbers[groups[0]] if _finer(number, n)), default=None)
            parent = cuts[groups[0], above] if above else None
            keeps = any((name, number) in ordered for name in groups)
            leaves = tuple(name for name in groups if sizes[name] == number)
            cut = Cut(number, groups, parent, keeps, leaves)
            cuts.update(dict.fromkeys(((name, number) for name in groups), cut))
            grown.append(cut)
    return tuple(grown)


def _shuffle(rows: int, size: int, generator: torch.Generator) -> Tensor:
    """A random order of each row, shape (rows, size), not all of them the identity."""
    while True:
        order = torch.rand(rows, size, generator=generator, dtype=torch.float64).argsort(1)
        if not torch.equal(order, torch.arange(size).expand(rows, size)):
            return order
