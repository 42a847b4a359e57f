"""The permutations that a graph allows, against an enumeration of all permutations of its neurons."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, permutations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_graphs import block_pairs, structural
from torch import nn

from ninokit.graph import EdgeKind, Edges, GraphBuilder, NeuralGraph, Neurons
from ninokit.graph.symmetry import Symmetry, find_symmetry
from ninokit.graph.views import make_view


def group_of(*numbers: int) -> NeuralGraph:
    """12 neurons ``g0``, cut into slices by ties to groups that are as large as there are slices."""
    return structural([12, *numbers], [(i, 0, number) for i, number in enumerate(numbers, 1)])


def inside(graph: NeuralGraph) -> Symmetry:
    """Without inputs and outputs."""
    return find_symmetry(graph, roles={})


def moves_within(graph: NeuralGraph, neurons: dict[str, tuple[int, ...]]) -> bool:
    """Whether old neurons at new places leave every block, and the inner order of rigid runs, as they are."""
    for block in graph.edges:
        pairs = {(dst, src) for *_, dst, src in block_pairs(block)}
        moved = {(dst, src) for dst, src in product(range(block.dst.size), range(block.src.size))}
        moved = {(d, s) for d, s in moved if (neurons[block.dst.name][d], neurons[block.src.name][s]) in pairs}
        if moved != pairs:
            return False
    for group in graph.neurons:
        order = neurons[group.name]
        for start in range(0, group.size, group.rigid):
            first = order[start]
            expected = range(first, first + group.rigid)
            if first % group.rigid or list(order[start : start + group.rigid]) != list(expected):
                return False
    return True


def keeps_slices(order: tuple[int, ...], slices: int) -> bool:
    step = len(order) // slices
    return all(order[i] // step == order[i - i % step] // step for i in range(len(order)))


def all_moves(graph: NeuralGraph) -> set[tuple[tuple[int, ...], ...]]:
    orders = []
    for group in graph.neurons:  # leave out early what can't be right
        cuts = {block.pieces for block in graph.edges if group in (block.src, block.dst)} | {group.size // group.rigid}
        found = permutations(range(group.size))
        orders.append([order for order in found if all(keeps_slices(order, slices) for slices in cuts)])
    names = [group.name for group in graph.neurons]
    return {found for found in product(*orders) if moves_within(graph, dict(zip(names, found, strict=True)))}


def number_of_moves(symmetry: Symmetry) -> int:
    return math.prod(math.factorial(cut.step) ** (cut.number // cut.step) for cut in symmetry.free)


def drawn(graph: NeuralGraph, symmetry: Symmetry, seed: int) -> tuple[tuple[int, ...], ...]:
    orders = symmetry.draw(torch.Generator().manual_seed(seed))
    return tuple(tuple(orders.get(g.name, torch.arange(g.size)).tolist()) for g in graph.neurons)


NESTED = {
    "dense": ([3, 4], [(0, 1, 1)], [1, 1]),
    "diagonal": ([4, 4], [(0, 1, 4)], [1, 1]),
    "two diagonals": ([3, 3, 3], [(0, 1, 3), (1, 2, 3)], [1, 1, 1]),
    "slices": ([4, 6], [(0, 1, 2)], [1, 1]),
    "heads": ([2, 4, 4], [(0, 1, 2), (0, 2, 2)], [1, 1, 1]),
    "two heads' slices tied neuron by neuron": ([2, 4, 4], [(0, 1, 2), (1, 2, 4)], [1, 1, 1]),
    "the same slices by two ways": ([4, 4, 2], [(0, 1, 4), (0, 2, 2), (1, 2, 2)], [1, 1, 1]),
    "nested": ([4, 8], [(0, 1, 2), (0, 1, 4)], [1, 1]),
    "coarser from afar": ([2, 4, 4], [(1, 2, 4), (0, 1, 2)], [1, 1, 1]),
    "multiplier": ([3, 6], [(0, 1, 3)], [1, 1]),
    "rigid": ([4, 6], [(0, 1, 1)], [4, 1]),
    "rigid runs": ([6, 3], [(0, 1, 1)], [2, 1]),
    "rigid heads": ([2, 4, 4], [(0, 1, 2), (0, 2, 2)], [1, 2, 1]),
    "rigid ties": ([4, 4], [(0, 1, 4)], [4, 1]),
    "rigid ties runs": ([4, 4], [(0, 1, 4)], [2, 1]),
    "rigid heads hold all slices": ([2, 4, 4], [(0, 1, 2), (0, 2, 2)], [2, 1, 1]),
    "rigid runs across slices": ([2, 8], [(0, 1, 2)], [1, 2]),
    "rigid run over slices": ([4, 8], [(0, 1, 4)], [1, 4]),
    "one neuron": ([1, 3], [(0, 1, 1)], [1, 1]),
}


def graph_of(sizes, links, rigid) -> NeuralGraph:
    groups = tuple(Neurons(f"g{i}", size, run) for i, (size, run) in enumerate(zip(sizes, rigid, strict=True)))
    blocks = tuple(Edges(EdgeKind.RESIDUAL, groups[a], groups[b], n) for a, b, n in links)
    return NeuralGraph(groups, blocks, {})


@pytest.mark.parametrize("name", NESTED)
def test_nested_cuts_allow_all_that_is_possible(name):
    graph = graph_of(*NESTED[name])
    symmetry, possible = inside(graph), all_moves(graph)
    assert number_of_moves(symmetry) == len(possible)
    for seed in range(20):
        assert drawn(graph, symmetry, seed) in possible


@given(
    st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=3).filter(lambda sizes: sum(sizes) <= 12),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 6)), max_size=4),
    st.lists(st.integers(1, 6), min_size=3, max_size=3),
    st.integers(0, 1000),
)
def test_whatever_is_drawn_is_possible(sizes, links, rigid, seed):
    links = [(a % len(sizes), b % len(sizes), n) for a, b, n in links]
    links = [(a, b, n) for a, b, n in links if a != b and sizes[a] % n == 0 and sizes[b] % n == 0]
    rigid = [run if size % run == 0 else 1 for size, run in zip(sizes, rigid, strict=False)]
    graph = graph_of(sizes, links, rigid)
    symmetry = inside(graph)
    orders = drawn(graph, symmetry, seed)
    assert moves_within(graph, {g.name: order for g, order in zip(graph.neurons, orders, strict=True)})
    for cut in symmetry.free:  # and so for each class alone, which does move
        alone = symmetry.draw(torch.Generator().manual_seed(seed), [cut])
        moved = {g.name: tuple(alone.get(g.name, torch.arange(g.size)).tolist()) for g in graph.neurons}
        assert moves_within(graph, moved)
        assert set(cut.groups) == {name for name, order in moved.items() if list(order) != sorted(order)}


@pytest.mark.parametrize(
    ("numbers", "labels"),
    [
        ([4, 6], ["2 slices of 'g0', 'g1', 'g2'"]),
        ([4, 3], []),
        ([2, 4, 6], ["2 slices of 'g0', 'g1', 'g2', …"]),
        ([2, 6], ["2 slices of 'g0', 'g1', 'g2'", "6 slices of 'g0', 'g2'", "12 neurons of 'g0'"]),
    ],
)
def test_slices_that_do_not_nest_keep_their_order(numbers, labels):
    assert [cut.label for cut in inside(group_of(*numbers)).free] == labels


def test_reason_of_slices_that_do_not_nest():
    reason = "cut into slices that do not nest"
    assert inside(group_of(4, 3)).fixed == {"g0": reason, "g1": reason, "g2": reason}


@pytest.mark.parametrize("shared", ["src", "dst"])
def test_an_end_that_all_slices_share_ties_nothing(shared):
    src, dst = Neurons("src", 4), Neurons("dst", 4)
    graph = NeuralGraph((src, dst), (Edges(EdgeKind.RESIDUAL, src, dst, 2, shared=shared),), {})
    assert [cut.label for cut in inside(graph).free] == ["4 neurons of 'src'", "4 neurons of 'dst'"]
    assert number_of_moves(inside(graph)) == len(all_moves(graph)) == 24 * 24


def test_finer_slices_move_inside_those_that_do_not_nest():
    graph = structural([24, 4, 6], [(1, 0, 4), (2, 0, 6)])
    labels = [cut.label for cut in inside(graph).free]
    assert labels == ["2 slices of 'g0', 'g1', 'g2'", "24 neurons of 'g0'"]


@pytest.mark.parametrize(("size", "numbers"), [(24, (4, 6)), (12, (2, 3)), (12, (4, 6)), (36, (4, 6, 9))])
def test_draws_respect_slices_that_do_not_nest(size, numbers):
    graph = structural([size, *numbers], [(i, 0, number) for i, number in enumerate(numbers, 1)])
    for seed in range(5):
        orders = drawn(graph, inside(graph), seed)
        assert moves_within(graph, {g.name: order for g, order in zip(graph.neurons, orders, strict=True)})


def test_draw_of_a_part():
    graph = graph_of(*NESTED["heads"])
    symmetry = inside(graph)
    heads, query, value = symmetry.free
    assert [cut.label for cut in symmetry.free] == [
        "2 slices of 'g0', 'g1', 'g2'",
        "4 neurons of 'g1'",
        "4 neurons of 'g2'",
    ]
    orders = symmetry.draw(torch.Generator(), [heads])
    assert {name: order.tolist() for name, order in orders.items()} == {
        "g0": [1, 0],
        "g1": [2, 3, 0, 1],
        "g2": [2, 3, 0, 1],
    }
    assert list(symmetry.draw(torch.Generator(), [query])) == ["g1"]
    assert list(symmetry.draw(torch.Generator(), [query, value])) == ["g1", "g2"]
    assert symmetry.draw(torch.Generator(), []) == {}


def test_draws_are_seeded_and_even():
    graph = structural([3], [])
    symmetry = inside(graph)
    generator = torch.Generator().manual_seed(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(500):
        order = tuple(symmetry.draw(generator)["g0"].tolist())
        counts[order] = counts.get(order, 0) + 1
    assert counts.keys() == set(permutations(range(3))) - {(0, 1, 2)}
    assert min(counts.values()) > 70
    assert drawn(graph, symmetry, 5) == drawn(graph, symmetry, 5)


# Inputs and outputs.


def roles(graph: NeuralGraph, **settings: object) -> dict[str, str]:
    return dict(find_symmetry(graph, **settings).roles)


def test_roles_of_a_chain():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    builder = GraphBuilder(model)
    a, b, c = (builder.neurons(name, size) for name, size in zip("abc", (3, 4, 2), strict=True))
    builder.edges(EdgeKind.LINEAR, a, b, parameter="0.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, b, parameter="0.bias")
    builder.edges(EdgeKind.LINEAR, b, c, parameter="1.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, c, parameter="1.bias")
    graph = builder.build()
    assert roles(graph) == {"a": "input", "c": "output"}
    assert find_symmetry(graph).fixed == {"a": "input", "c": "output"}
    assert roles(graph, roles={"b": "input"}) == {"b": "input"}


@pytest.mark.parametrize("back", [True, False])
def test_what_keys_read_may_be_an_input(back):
    """Keys are drawn from the queries back to what they read, or like any layer, to keys of their own."""
    stream, query, keys, value, out = (Neurons(name, 4) for name in ("stream", "query", "keys", "value", "out"))
    heads = Neurons("heads", 2)
    view = make_view((4, 4), "dst src", expected={"group": 1, "dst": 4, "src": 4})
    ends = {
        "q": (EdgeKind.QUERY, stream, query),
        "k": (EdgeKind.KEY, query, stream) if back else (EdgeKind.KEY, stream, keys),
        "v": (EdgeKind.VALUE, stream, value),
        "o": (EdgeKind.LINEAR, value, out),
    }
    blocks = [Edges(kind, src, dst, 1, name, view) for name, (kind, src, dst) in ends.items()]
    read = (query, value) if back else (query, keys, value)
    blocks += [Edges(EdgeKind.ATTENTION_HEAD, heads, group, 2) for group in read]
    shapes = dict.fromkeys(ends, torch.Size([4, 4]))
    assert roles(NeuralGraph((stream, *read, out, heads), tuple(blocks), shapes)) == {
        "stream": "input",
        "out": "output",
    }


def test_neurons_that_only_a_norm_acts_on_stay():
    model = nn.LayerNorm(3)
    builder = GraphBuilder(model)
    group = builder.neurons("a", 3)
    builder.vector(EdgeKind.NORM_SCALE, group, parameter="weight")
    builder.vector(EdgeKind.BIAS, group, parameter="bias")
    assert roles(builder.build()) == {"a": "input and output"}


def test_data_goes_on_over_residuals():
    # a → b: a linear layer whose outputs are added to others (c), which the last layer reads
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    builder = GraphBuilder(model)
    a, b, c, d, e = (builder.neurons(name, size) for name, size in zip("abcde", (3, 4, 4, 4, 2), strict=True))
    for name, src, dst in [("0", a, b), ("1", a, c), ("2", d, e)]:
        builder.edges(EdgeKind.LINEAR, src, dst, parameter=f"{name}.weight", axes="dst src")
    builder.edges(EdgeKind.RESIDUAL, b, d, groups=4)
    builder.edges(EdgeKind.RESIDUAL, c, d, groups=4)
    symmetry = find_symmetry(builder.build())
    assert symmetry.fixed == {"a": "input", "e": "output"}
    assert [cut.label for cut in symmetry.free] == ["4 neurons of 'b', 'c', 'd'"]


def test_reasons():
    groups = tuple(
        Neurons(name, 4, run) for name, run in [("in", 1), ("tied", 1), ("table", 4), ("also", 1), ("free", 1)]
    )
    blocks = (
        Edges(EdgeKind.RESIDUAL, groups[0], groups[1], 4),
        Edges(EdgeKind.RESIDUAL, groups[2], groups[3], 4),
    )
    symmetry = find_symmetry(NeuralGraph(groups, blocks, {}), roles={"in": "input"})
    assert symmetry.fixed == {
        "in": "input",
        "tied": "tied to 'in'",
        "table": "declared rigid",
        "also": "tied to 'table'",
    }
    assert [cut.label for cut in symmetry.free] == ["4 neurons of 'free'"]


def test_a_graph_that_knows_its_roles():
    """Inputs that are hidden to the flow, as in a network that adds to its inputs, and an end that is no output."""
    groups = tuple(Neurons(name, 4) for name in "abcd")
    blocks = tuple(Edges(EdgeKind.ATTENTION_HEAD, a, b) for a, b in pairwise(groups))
    guessed = NeuralGraph(groups, blocks, {})
    known = replace(guessed, roles={"b": "input", "c": "output"})
    assert find_symmetry(known).roles == known.roles
    assert find_symmetry(known).fixed == known.roles
    assert [cut.groups for cut in find_symmetry(known).free] == [("a",), ("d",)]
    assert find_symmetry(known, roles={"d": "output"}).fixed == {"d": "output"}
    assert find_symmetry(replace(guessed, roles={})).fixed == {}


def test_a_graph_that_knows_its_roles_is_not_tied_to_an_embedding():
    words, stream, hidden = Neurons("words", 5, 5), Neurons("stream", 4), Neurons("hidden", 4)
    views = [
        make_view(shape, axes, expected={"group": 1, "dst": 4, "src": src})
        for shape, axes, src in [((5, 4), "src dst", 5), ((4, 4), "dst src", 4)]
    ]
    blocks = (
        Edges(EdgeKind.TOKEN_EMBEDDING, words, stream, 1, "table", views[0]),
        Edges(EdgeKind.LINEAR, stream, hidden, 1, "linear", views[1]),
    )
    shapes = {"table": torch.Size((5, 4)), "linear": torch.Size((4, 4))}
    guessed = NeuralGraph((words, stream, hidden), blocks, shapes)
    assert [cut.groups for cut in find_symmetry(guessed, reused={"table"}).free] == [("stream", "hidden")]
    known = replace(guessed, roles={"words": "input"})
    assert [cut.groups for cut in find_symmetry(known, reused={"table"}).free] == [("stream",), ("hidden",)]


def test_fixed_heads_leave_the_order_inside_free():
    groups = (Neurons("heads", 2), Neurons("query", 4))
    graph = NeuralGraph(groups, (Edges(EdgeKind.ATTENTION_HEAD, *groups, 2),), {})
    symmetry = find_symmetry(graph, roles={"heads": "input"})
    assert symmetry.fixed == {"heads": "input"}
    assert [(cut.label, cut.parent.label) for cut in symmetry.free] == [
        ("4 neurons of 'query'", "2 slices of 'heads', 'query'")
    ]


def test_a_stream_of_hundreds_of_layers():
    graph = structural([8] * 300, [(i, i + 1, 8) for i in range(299)])
    (cut,) = inside(graph).free
    assert len(cut.groups) == 300
    assert cut.label == "8 neurons of 'g0', 'g1', 'g2', …"
