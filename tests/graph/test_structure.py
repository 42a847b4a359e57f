from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import pytest
import torch

from ninokit.errors import GraphError
from ninokit.graph import EdgeKind, Edges, GraphBuilder, NeuralGraph, Neurons
from ninokit.graph.kinds import NUM_KINDS
from ninokit.graph.views import make_view


def small_graph() -> NeuralGraph:
    """Linear(3, 4), Linear(4, 2) with a residual diagonal from its middle to a second middle."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 2))
    builder = GraphBuilder(model)
    inputs, first, second, outputs = (
        builder.neurons(name, size) for name, size in zip("abcd", (3, 4, 4, 2), strict=True)
    )
    builder.edges(EdgeKind.LINEAR, inputs, first, parameter="0.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, first, parameter="0.bias")
    builder.edges(EdgeKind.LINEAR, first, second, parameter="1.weight", axes="dst src")
    builder.edges(EdgeKind.RESIDUAL, first, second, groups=4)
    builder.edges(EdgeKind.LINEAR, second, outputs, parameter="2.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, outputs, parameter="2.bias")
    return builder.build()


def test_published_kind_numbers():
    assert {kind.name: int(kind) for kind in EdgeKind} == {
        "PADDING": 0,
        "LINEAR": 1,
        "BIAS": 2,
        "CONVOLUTION": 3,
        "NORM_SCALE": 4,
        "TOKEN_EMBEDDING": 5,
        "POSITION_EMBEDDING": 6,
        "QUERY": 7,
        "KEY": 8,
        "VALUE": 9,
        "RESIDUAL": 10,
        "ATTENTION_HEAD": 11,
        "SELF_LOOP": 13,
    }
    assert NUM_KINDS == 15
    constants = {EdgeKind.RESIDUAL: 1.0, EdgeKind.ATTENTION_HEAD: 1.0, EdgeKind.SELF_LOOP: 2.0}
    assert {kind for kind in EdgeKind if kind.structural} == set(constants)
    for kind in EdgeKind:
        if kind.structural:
            assert kind.constant == constants[kind]
        else:
            with pytest.raises(KeyError):
                _ = kind.constant


def test_counts():
    graph = small_graph()
    groups = [(group.name, group.size) for group in graph.neurons]
    assert groups == [("a", 3), ("b", 4), ("c", 4), ("d", 2), ("0.bias", 1), ("2.bias", 1)]
    assert graph.num_nodes == 3 + 4 + 4 + 2 + 1 + 1
    assert graph.num_edges == 12 + 4 + 16 + 4 + 8 + 2
    assert graph.num_parameters == 12 + 4 + 16 + 8 + 2
    assert graph.max_taps == 1
    assert [block.num_edges for block in graph.edges] == [12, 4, 16, 4, 8, 2]
    assert [block.num_taps for block in graph.edges] == [1] * 6
    assert [block.pattern for block in graph.edges] == ["dense", "dense", "dense", "diagonal", "dense", "dense"]
    assert graph.offsets == {"a": 0, "b": 3, "c": 7, "d": 11, "0.bias": 13, "2.bias": 14}
    assert graph.blocks["1.weight"] == [graph.edges[2]]
    assert list(graph.blocks) == ["0.weight", "0.bias", "1.weight", "2.weight", "2.bias"]


def test_patterns():
    four, six = Neurons("four", 4), Neurons("six", 6)
    assert Edges(EdgeKind.RESIDUAL, four, six, 2).pattern == "grouped"
    assert Edges(EdgeKind.RESIDUAL, four, six, 2).num_edges == 2 * 2 * 3
    assert Edges(EdgeKind.RESIDUAL, four, four, 4).pattern == "diagonal"
    assert Edges(EdgeKind.RESIDUAL, four, four, 4).num_edges == 4
    assert Edges(EdgeKind.RESIDUAL, four, Neurons("eight", 8), 4).pattern == "grouped"  # a depthwise multiplier
    assert Edges(EdgeKind.RESIDUAL, Neurons("one", 1), six).pattern == "dense"


def test_shared_ends():
    four, six = Neurons("four", 4), Neurons("six", 6)
    plain = Edges(EdgeKind.RESIDUAL, four, six, 2)
    assert (plain.shape, plain.pieces) == ((2, 3, 2), 2)
    for groups, shared, shape in [(4, "dst", (4, 6, 1)), (2, "dst", (2, 6, 2)), (3, "src", (3, 2, 4))]:
        block = Edges(EdgeKind.RESIDUAL, four, six, groups, shared=shared)
        assert block.shape == shape
        assert (block.pattern, block.pieces, block.num_edges) == ("dense", 1, 24)
    assert Edges(EdgeKind.RESIDUAL, four, four, 4, shared="src").pattern == "dense"  # no diagonal
    assert Edges(EdgeKind.RESIDUAL, four, six, shared="src").shape == (1, 6, 4)


def test_only_ends_that_are_cut_need_to_be_divisible():
    four, six = Neurons("four", 4), Neurons("six", 6)
    with pytest.raises(GraphError, match=r"^residual edges four → six: 4 slices do not divide 6 neurons of 'six'$"):
        Edges(EdgeKind.RESIDUAL, four, six, 4, shared="src")
    with pytest.raises(GraphError, match=r"^residual edges four → six: 3 slices do not divide 4 neurons of 'four'$"):
        Edges(EdgeKind.RESIDUAL, four, six, 3, shared="dst")
    with pytest.raises(GraphError, match=r"^residual edges four → six: shared is 'src', 'dst' or None, got 'both'$"):
        Edges(EdgeKind.RESIDUAL, four, six, 2, shared="both")


def test_graph_without_edges():
    graph = NeuralGraph((Neurons("a", 2),), (), {})
    assert (graph.num_nodes, graph.num_edges, graph.num_parameters, graph.max_taps) == (2, 0, 0, 1)


def test_structures_are_frozen_values():
    assert Neurons("a", 2) == Neurons("a", 2)
    assert small_graph().edges == small_graph().edges
    assert small_graph() == small_graph()
    with pytest.raises(FrozenInstanceError):
        Neurons("a", 2).size = 3


@pytest.mark.parametrize("size", [0, -1])
def test_empty_group_is_refused(size):
    with pytest.raises(GraphError, match=f"^neurons 'a': expected at least one neuron, got {size}$"):
        Neurons("a", size)


@pytest.mark.parametrize("rigid", [0, -2, 4, 12])
def test_rigid_runs_that_do_not_divide_are_refused(rigid):
    with pytest.raises(GraphError, match=f"^neurons 'a': rigid runs of {rigid} do not divide 6 neurons$"):
        Neurons("a", 6, rigid)


def test_neurons_are_interchangeable_unless_told_otherwise():
    assert Neurons("a", 6) == Neurons("a", 6, 1) != Neurons("a", 6, 2)


@pytest.mark.parametrize(("src", "dst", "slices"), [(4, 6, 4), (4, 6, 3), (4, 4, 0)])
def test_indivisible_slices_are_refused(src, dst, slices):
    message = f"residual edges a → b: {slices} slices do not divide {src} neurons of 'a' and {dst} of 'b'"
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        Edges(EdgeKind.RESIDUAL, Neurons("a", src), Neurons("b", dst), slices)


def test_structural_edges_and_parameters_exclude_each_other():
    a, b = Neurons("a", 3), Neurons("b", 2)
    view = make_view((2, 3), "dst src", expected={"group": 1, "dst": 2, "src": 3})
    ending = "a structural kind has neither parameter nor view, any other kind has both"
    for arguments, label in [
        ((EdgeKind.LINEAR, a, b), "linear edges a → b"),
        ((EdgeKind.RESIDUAL, a, b, 1, "w", view), "w"),
        ((EdgeKind.LINEAR, a, b, 1, "w", None), "w"),
        ((EdgeKind.RESIDUAL, a, b, 1, None, view), "residual edges a → b"),
    ]:
        with pytest.raises(GraphError, match=f"^{re.escape(f'{label}: {ending}')}$"):
            Edges(*arguments)


def test_positions_from_elsewhere():
    graph = small_graph()
    positions = torch.randn(15, 8)
    placed = graph.with_positions(positions)
    assert placed.positions is positions
    assert placed.edges == graph.edges
    assert not torch.equal(graph.positions, positions)
    for shape in [(15, 7), (14, 8), (8, 15)]:
        message = f"positions: expected shape (15, 8) (nodes, eigenvectors), got {shape}"
        with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
            graph.with_positions(torch.zeros(shape))


def test_positions_are_single_precision_and_equal_for_equal_graphs():
    graph = small_graph()
    assert graph.positions.dtype == torch.float32
    assert graph.positions.shape == (15, 8)
    assert graph.positions is graph.positions
    assert torch.equal(graph.positions, small_graph().positions)


def test_describe():
    model = torch.nn.Conv2d(4, 4, 5, groups=2, bias=False)
    model.register_parameter("experts", torch.nn.Parameter(torch.zeros(2, 2, 4)))
    builder = GraphBuilder(model)
    a, b = builder.neurons("a", 4), builder.neurons("b", 4)
    builder.edges(EdgeKind.CONVOLUTION, a, b, parameter="weight", axes="(group dst) src tap tap", groups=2)
    builder.edges(EdgeKind.RESIDUAL, a, b, groups=4)
    builder.edges(EdgeKind.LINEAR, a, b, parameter="experts", axes="group dst src", groups=2, shared="src")
    # 4 outputs × 2 inputs of their slice = 8 edges; 25 taps are 9 + 9 + 7
    assert builder.build().describe() == (
        "neural graph: 8 neurons in 2 groups, 44 edges in 5 blocks (4 structural), 216 parameters\n"
        "\n"
        "neurons  size\n"
        "-------  ----\n"
        "a           4\n"
        "b           4\n"
        "\n"
        "parameter  kind         pattern      from → to  taps  edges\n"
        "---------  -----------  -----------  ---------  ----  -----\n"
        "weight     convolution  grouped (2)  a → b         9      8\n"
        "weight     convolution  grouped (2)  a → b         9      8\n"
        "weight     convolution  grouped (2)  a → b         7      8\n"
        "–          residual     diagonal     a → b         1      4\n"
        "experts    linear       dense        a → b         1     16"
    )


@pytest.mark.parametrize(
    ("number", "line"), [(2, "p0, p1"), (5, "p0, p1, p2, p3, p4"), (7, "p0, p1, p2, p3, p4, … (7 in all)")]
)
def test_description_ends_with_what_is_left_out(number, line):
    names = tuple(f"p{i}" for i in range(number))
    graph = NeuralGraph((Neurons("a", 2),), (), {}, left_out=names)
    assert graph.describe().endswith(f"\n\nleft out, as the network does not use them: {line}")
