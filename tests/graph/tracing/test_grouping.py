"""From facts to groups: lattices of positions, refinement of colours, cuts."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ninokit.graph.tracing.elements import Base, Elements, Relation
from ninokit.graph.tracing.grouping import (
    Group,
    Grouping,
    Series,
    _Partition,
    common_slices,
    digits_of,
    find_groups,
    paired_groups,
)
from ninokit.graph.tracing.neurons import resolve


def lattice(start: int, digits: list[tuple[int, int]]) -> list[int]:
    """The positions that digits number, slowly."""
    steps = [range(0, size * stride, stride) for size, stride in digits]
    return [start + sum(parts) for parts in itertools.product(*steps)]


def factorisations(number: int) -> list[list[int]]:
    if number == 1:
        return [[]]
    return [[d, *rest] for d in range(2, number + 1) if number % d == 0 for rest in factorisations(number // d)]


def all_digits(positions: list[int]) -> list[list[tuple[int, int]]]:
    """Every lattice with ascending digits, each of which steps over all that those inside reach, of these positions."""
    found = []
    for sizes in factorisations(len(positions)):
        inner = [math.prod(sizes[number + 1 :]) for number in range(len(sizes))]
        digits = [(size, positions[step] - positions[0]) for size, step in zip(sizes, inner, strict=True)]
        reaches = [sum(stride * (size - 1) for size, stride in digits[number + 1 :]) for number in range(len(digits))]
        over = all(stride > reach for (_, stride), reach in zip(digits, reaches, strict=True))
        if all(stride > 0 for _, stride in digits) and over and lattice(positions[0], digits) == positions:
            found.append(digits)
    return found


@st.composite
def positions(draw):
    """Lattices of up to three digits, some of them disturbed."""
    digits = draw(st.lists(st.tuples(st.integers(2, 4), st.integers(1, 9)), max_size=3))
    values = lattice(draw(st.integers(0, 3)), digits)
    for _ in range(draw(st.integers(0, 1))):
        at = draw(st.integers(0, len(values) - 1))
        values[at] += draw(st.integers(-1, 2))
    assume(len(set(values)) == len(values))  # no index stands twice
    return values


@given(positions())
def test_digits(values):
    known = all_digits(values)
    found = digits_of(np.array(values))
    if not known:
        assert found is None
    else:
        assert found in known
        assert len(found) == min(map(len, known))


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ([7], []),
        ([3, 4, 5], [(3, 1)]),
        ([0, 5, 10], [(3, 5)]),
        ([1, 2, 7, 8], [(2, 6), (2, 1)]),
        ([0, 1, 4, 5, 8, 9], [(3, 4), (2, 1)]),
        ([0, 1, 10, 11, 100, 101, 110, 111], [(2, 100), (2, 10), (2, 1)]),
        ([2, 1], None),
        ([1, 1], None),
        ([0, 1, 3], None),
        ([0, 1, 4, 6], None),
        ([0, 2, 1, 3], None),  # digits that interleave
        ([0, 2, 4, 6, 5, 7, 9, 11], None),
        ([0, 2, 3, 5, 6, 8, 7, 9, 10, 12, 13, 15], None),  # each of which steps over the next one alone
        ([4, 5, 0, 1], None),
    ],
)
def test_digits_by_hand(values, digits):
    assert digits_of(np.array(values)) == digits


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.data())
def test_common_slices(slices, width, height, data):
    """The finest cut of both sides into as many slices, so that each pair lies in slices of one number."""
    inner, outer = slices * width, slices * height
    pairs = data.draw(st.lists(st.tuples(st.integers(0, inner - 1), st.integers(0, outer - 1)), min_size=1))
    if data.draw(st.booleans()):
        pairs = [(a, b) for a, b in pairs if a // width == b // height] or [(0, 0)]
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    expected = max(
        n
        for n in range(1, outer + 1)
        if inner % n == 0 and outer % n == 0 and all(x // (inner // n) == y // (outer // n) for x, y in pairs)
    )
    assert common_slices(inner, outer, a, b) == expected


def test_pairs_of_neurons_by_pairs_of_groups():
    groups = [Group(np.array(nodes), [], False) for nodes in ([0, 1, 2], [3, 4])]
    of_node, index = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 1, 2, 0, 1, 0])
    made = Grouping(groups, of_node, index)
    pairs = paired_groups(made, np.array([2, 0, 4, 1, 5, 3]), np.array([4, 3, 1, 0, 0, 5]))
    assert [(a, b, x.tolist(), y.tolist()) for a, b, x, y in pairs] == [
        (0, 0, [1], [0]),
        (0, 1, [0, 2], [0, 1]),
        (1, 0, [1], [1]),
    ]
    assert list(paired_groups(made, np.array([5]), np.array([5]))) == []


# Refinement.


@st.composite
def facts(draw):
    """Up to four dimensions of elements; sums and heads join them at random."""
    elements = Elements()
    for number in range(draw(st.integers(1, 4))):
        elements.new(draw(st.integers(1, 4)), f"w{number}")
    one = st.integers(0, elements.count - 1)
    pairs = st.lists(st.tuples(one, one), min_size=1, max_size=4)
    for name, number in (("same", 2), ("residual", 2), ("tied", 1)):
        for _ in range(draw(st.integers(0, number))):
            a, b = zip(*draw(pairs), strict=True)
            getattr(elements, name).append((torch.tensor(a), torch.tensor(b)))
    belongings = st.lists(st.tuples(one, one), min_size=1, max_size=4, unique_by=lambda pair: pair[0])
    for _ in range(draw(st.integers(0, 2))):
        a, b = zip(*draw(belongings), strict=True)
        elements.relations.append(Relation(torch.tensor(a), torch.tensor(b), draw(st.booleans())))
    for _ in range(draw(st.integers(0, 1))):
        elements.fixed.append((torch.tensor([draw(one)]), "because"))
    return elements


def slow_classes(elements: Elements, node: list[int], fixed: list[bool], bases: list[Base]) -> dict[int, object]:
    """Neurons by what can be told of them: colours are nested tuples, spread along the facts until no more differ."""
    neurons = sorted(set(node))
    occurrences: dict[int, list[object]] = {n: [] for n in neurons}
    for number, base in enumerate(bases):
        seen = Counter[int]()
        for element in base.range:
            occurrences[node[element]].append((number, seen[node[element]]))
            seen[node[element]] += 1
    sums = [set(zip(a.tolist(), b.tolist(), strict=True)) for a, b in (*elements.residual, *elements.tied)]
    links = [(f"sum {s}", {(node[a], node[b]) for a, b in pairs}) for s, pairs in enumerate(sums)]
    places: dict[int, list[object]] = {n: [] for n in neurons}  # among those that are added to one, or that one is
    for label, pairs in links:
        for a, b in pairs:
            places[b].append((label, "to", sorted(other for one, other in pairs if one == a).index(b)))
            places[a].append((label, "from", sorted(one for one, other in pairs if other == b).index(a)))
    start = {n: (fixed[n], tuple(sorted(occurrences[n])), tuple(sorted(places[n]))) for n in neurons}
    colour: dict[int, object] = dict(start)
    for r, relation in enumerate(elements.relations):
        pairs = zip(relation.child.tolist(), relation.parent.tolist(), strict=True)
        links.append((f"heads {r}", {(node[a], node[b]) for a, b in pairs}))
    while True:
        kinds = {value: rank for rank, value in enumerate(sorted(set(map(repr, colour.values()))))}
        ranks = {n: kinds[repr(value)] for n, value in colour.items()}
        spread: dict[int, list[object]] = {n: [] for n in neurons}
        for label, pairs in links:
            for a, b in pairs:
                spread[a].append((label, "to", ranks[b]))
                spread[b].append((label, "from", ranks[a]))
        colour = {n: (ranks[n], tuple(sorted(spread[n]))) for n in neurons}
        if len(set(map(repr, colour.values()))) == len(kinds):
            return ranks


@given(facts())
def test_refinement_against_a_slow_one(elements):
    """Neurons stay together exactly as long as nothing that is known tells them apart."""
    shapes = {base.parameter: (base.size,) for base in elements.bases}
    found = resolve(elements, shapes)
    bases = [base for layer in found.layers for base in (layer.src, layer.dst) if base is not None]
    if not bases:
        return
    partition = _Partition(found, elements, bases)
    partition.refine()
    fast = {n: int(partition.colour[n]) for n in set(found.node.tolist())}
    slow = slow_classes(elements, found.node.tolist(), found.fixed.tolist(), bases)

    def classes(colours: dict[int, object]) -> set[frozenset[int]]:
        return {frozenset(n for n in colours if colours[n] == value) for value in colours.values()}

    assert classes(fast) == classes(slow)


# Groups.


def chain(*sizes: int) -> tuple[Elements, dict[str, tuple[int, ...]], list[Base]]:
    """Weights w0, w1, … of a chain of layers: what one writes to, the next one reads."""
    elements, shapes, written = Elements(), {}, []
    for number, (src, dst) in enumerate(itertools.pairwise(sizes)):
        name = f"w{number}"
        out, read = elements.new(dst, name, 0, born=number), elements.new(src, name, 1, contracted=True)
        if written:
            elements.same.append((torch.tensor(written[-1].range), torch.tensor(read.range)))
        elements.usages[name] = "linear"
        shapes[name] = (dst, src)
        written.append(out)
    return elements, shapes, written


def groups_of(elements: Elements, shapes: dict[str, tuple[int, ...]], uneven: tuple[str, ...] = ()) -> Grouping:
    return find_groups(resolve(elements, shapes), elements, uneven)


def described(made: Grouping) -> list[tuple[list[int], int]]:
    return [(group.nodes.tolist(), group.rigid) for group in made.groups]


def test_chain():
    elements, shapes, _ = chain(3, 4, 2)
    made = groups_of(elements, shapes)
    # Elements 0–3 are what w0 writes to, 4–6 what it reads, 7 and 8 what w1 writes to, 9–12 what it reads: 0–3.
    assert described(made) == [([0, 1, 2, 3], 1), ([4, 5, 6], 1), ([7, 8], 1)]
    assert [[(s.base.parameter, s.base.dim, s.place, s.positions.tolist()) for s in g.series] for g in made.groups] == [
        [("w0", 0, 0, [0, 1, 2, 3]), ("w1", 1, 0, [0, 1, 2, 3])],
        [("w0", 1, 0, [0, 1, 2])],
        [("w1", 0, 0, [0, 1])],
    ]
    assert [made.cut(number) for number in range(3)] == [1, 1, 1]


def test_no_parameters():
    made = groups_of(Elements(), {})
    assert made.groups == []


def test_fixed_neurons_are_a_group_of_their_own():
    elements, shapes, _ = chain(3, 4, 2)
    elements.fixed.append((torch.tensor([0, 1]), "output"))
    assert described(groups_of(elements, shapes)) == [
        ([0, 1], 2),
        ([2, 3], 1),
        ([4, 5, 6], 1),
        ([7, 8], 1),
    ]


@pytest.mark.parametrize(
    ("told", "hidden"),
    [
        ([2], [[0, 1], [2], [3]]),  # 0, 1, 3 are no progression
        ([1, 3], [[0, 2], [1, 3]]),
        ([0, 1], [[0, 1], [2, 3]]),
        ([0], [[0], [1, 2, 3]]),
    ],
)
def test_groups_are_numbered_evenly(told, hidden):
    """What colours tell apart leaves numbers behind that must be progressions, or they are cut."""
    elements, shapes, _ = chain(3, 4, 2)
    elements.colours.append((torch.tensor(told), torch.full((len(told),), 77)))
    made = groups_of(elements, shapes)
    assert sorted(group.nodes.tolist() for group in made.groups if group.nodes[0] < 4) == hidden


def test_slices_of_a_parameter_are_told_apart_by_who_reads_them():
    """The first two outputs go into one layer, the others into another."""
    elements, shapes = Elements(), {}
    out = elements.new(4, "w", 0, born=0)
    elements.new(3, "w", 1, contracted=True)
    shapes["w"], elements.usages["w"] = (4, 3), "linear"
    for number, part in enumerate(([0, 1], [2, 3])):
        elements.new(2, f"v{number}", 0, born=1)
        read = elements.new(2, f"v{number}", 1, contracted=True)
        shapes[f"v{number}"], elements.usages[f"v{number}"] = (2, 2), "linear"
        elements.same.append((torch.tensor(part), torch.tensor(read.range)))
    made = groups_of(elements, shapes)
    first = [group.nodes.tolist() for group in made.groups if group.nodes[0] in out.range]
    assert first == [[0, 1], [2, 3]]


def test_neurons_at_several_places():
    """Two neurons, each of which the next layer reads three times: channels and positions, flattened."""
    elements, shapes = Elements(), {"w": (2, 3), "v": (2, 6)}
    elements.new(2, "w", 0, born=0)
    elements.new(3, "w", 1, contracted=True)
    elements.new(2, "v", 0, born=1)
    read = elements.new(6, "v", 1, contracted=True)
    elements.usages.update(w="linear", v="linear")
    elements.same.append((torch.tensor(read.range), torch.tensor([0, 0, 0, 1, 1, 1])))
    elements.places.append((torch.tensor(read.range), torch.tensor([0, 1, 2, 0, 1, 2])))
    made = groups_of(elements, shapes)
    assert [(s.base.parameter, s.place, s.positions.tolist()) for s in made.groups[0].series] == [
        ("w", 0, [0, 1]),
        ("v", 0, [0, 3]),
        ("v", 1, [1, 4]),
        ("v", 2, [2, 5]),
    ]
    # Read at the places in another order, the columns are other series.
    elements.places[-1] = (torch.tensor(read.range), torch.tensor([2, 1, 0, 2, 1, 0]))
    made = groups_of(elements, shapes)
    assert [s.positions.tolist() for s in made.groups[0].series] == [[0, 1], [2, 5], [1, 4], [0, 3]]


def test_elements_at_two_places_are_fixed():
    elements, shapes, _ = chain(3, 4, 2)
    for places in ([0, 0, 0, 0], [0, 1, 0, 0]):
        elements.places.append((torch.arange(4), torch.tensor(places)))
    assert np.flatnonzero(resolve(elements, shapes).fixed).tolist() == [1]
    assert described(groups_of(elements, shapes))[:4] == [([0, 2], 1), ([1], 1), ([3], 1), ([4, 5, 6], 1)]


def test_heads():
    """Six neurons of two heads; then they keep their order inside."""
    for rigid, run in ((False, 1), (True, 3)):
        elements, shapes, _ = chain(3, 6, 2)
        heads = elements.new(2)
        parents = torch.tensor(heads.range).repeat_interleave(3)
        elements.relations.append(Relation(torch.arange(6), parents, rigid))
        made = groups_of(elements, shapes)
        assert ([0, 1, 2, 3, 4, 5], run) in described(made)
        assert (list(heads.range), 1) in described(made)


def test_heads_found_twice_are_one():
    elements, shapes, _ = chain(3, 6, 2)
    for _ in range(2):
        heads = elements.new(2)
        elements.relations.append(Relation(torch.arange(6), torch.tensor(heads.range).repeat_interleave(3), False))
    made = groups_of(elements, shapes)
    assert [group.nodes.tolist() for group in made.groups if not group.series] == [[17, 18]]


def test_children_of_other_heads_bind_the_whole_group():
    """Heads that take turns: no slices of the group move with the heads, so neither side may move."""
    elements, shapes, _ = chain(3, 4, 2)
    heads = elements.new(2)
    parents = torch.tensor(heads.range).repeat(2)
    elements.relations.append(Relation(torch.arange(4), parents, False))
    rigid = {tuple(nodes): rigid for nodes, rigid in described(groups_of(elements, shapes))}
    assert rigid[0, 1, 2, 3] == 4
    assert rigid[tuple(heads.range)] == 2


def test_sums_in_another_order_bind_both_groups():
    elements, shapes, written = chain(3, 4, 4, 2)
    first, second = (torch.tensor(base.range) for base in written[:2])
    elements.residual.append((first, second))
    made = {tuple(nodes): rigid for nodes, rigid in described(groups_of(elements, shapes))}
    assert (made[tuple(first.tolist())], made[tuple(second.tolist())]) == (1, 1)
    elements.residual[-1] = (first, second[[1, 0, 3, 2]])
    made = {tuple(nodes): rigid for nodes, rigid in described(groups_of(elements, shapes))}
    assert all(len(nodes) == 1 or rigid == len(nodes) for nodes, rigid in made.items() if nodes[0] in first.tolist())


def test_sums_within_a_group_fix_it():
    elements, shapes, _ = chain(3, 4, 2)
    elements.residual.append((torch.arange(4), torch.tensor([1, 2, 3, 0])))
    assert ([0, 1, 2, 3], 4) in described(groups_of(elements, shapes))


def test_uneven_parameters_have_groups_of_one():
    elements, shapes, _ = chain(3, 4, 2)
    made = groups_of(elements, shapes, uneven=("w0",))
    assert sorted(nodes for nodes, _ in described(made)) == [[0], [1], [2], [3], [4], [5], [6], [7, 8]]


def test_series_of_a_group():
    elements, shapes, written = chain(3, 4, 2)
    made = groups_of(elements, shapes)
    ((number, series),) = made.series[written[0].start]
    assert number == 0
    assert isinstance(series, Series)
    assert series is made.groups[0].series[0]
