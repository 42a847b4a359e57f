from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_graphs import block_pairs, first_nodes, sequential_edges
from torch import nn

import ninokit
from ninokit.errors import GraphError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.edge_values import edge_endpoints, edge_kinds, edges_to_parameters, parameters_to_edges


def states_of(model: nn.Module, context: int = 5) -> dict[str, torch.Tensor]:
    return {name: torch.randn(context, *p.shape, dtype=p.dtype) for name, p in model.named_parameters()}


def hand_made() -> NeuralGraph:
    """A grouped 2-tap convolution 4 → 2 in two slices with a bias, and a diagonal from the outputs to themselves."""
    model = nn.Conv1d(4, 2, 2, groups=2)
    builder = GraphBuilder(model)
    inputs, outputs = builder.neurons("in", 4), builder.neurons("out", 2)
    builder.edges(EdgeKind.CONVOLUTION, inputs, outputs, parameter="weight", axes="(group dst) src tap", groups=2)
    builder.vector(EdgeKind.BIAS, outputs, parameter="bias")
    builder.edges(EdgeKind.RESIDUAL, outputs, outputs, groups=2)
    return builder.build()


def test_hand_made_graph():
    graph = hand_made()
    src, dst = edge_endpoints(graph)
    # nodes: in 0-3, out 4-5, bias 6
    assert src.tolist() == [0, 1, 2, 3, 6, 6, 4, 5, 0, 1, 2, 3, 4, 5, 6]
    assert dst.tolist() == [4, 4, 5, 5, 4, 5, 4, 5, 0, 1, 2, 3, 4, 5, 6]
    assert edge_kinds(graph).tolist() == [3] * 4 + [2] * 2 + [10] * 2 + [13] * 7
    states = {
        "weight": torch.tensor([[[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]]]),
        "bias": torch.tensor([[9.0, 10]]),
    }
    expected = [[1.0, 2], [3, 4], [5, 6], [7, 8], [9, 0], [10, 0], [1, 0], [1, 0]] + [[2.0, 0]] * 7
    values = parameters_to_edges(graph, states)
    assert values.shape == (15, 2, 1)
    assert values[:, :, 0].tolist() == expected
    wide = parameters_to_edges(graph, states, taps=5)
    assert torch.equal(wide[:, :2], values)
    assert not wide[:, 2:].any()


def test_hand_made_graph_with_shared_ends():
    """Two experts of one neuron each read both inputs; both outputs read the experts' two taps an edge."""
    model = nn.Module()
    model.register_parameter("up", nn.Parameter(torch.empty(2, 1, 2)))
    model.register_parameter("down", nn.Parameter(torch.empty(2, 4)))
    builder = GraphBuilder(model)
    inputs, experts, outputs = (builder.neurons(name, 2) for name in ("in", "experts", "out"))
    builder.edges(EdgeKind.LINEAR, inputs, experts, parameter="up", axes="group dst src", groups=2, shared="src")
    axes = "dst (group tap src)"
    builder.edges(EdgeKind.LINEAR, experts, outputs, parameter="down", axes=axes, groups=2, shared="dst")
    graph = builder.build()
    src, dst = edge_endpoints(graph)
    # nodes: in 0-1, experts 2-3, out 4-5
    assert src.tolist() == [0, 1, 0, 1, 2, 2, 3, 3, *range(6)]
    assert dst.tolist() == [2, 2, 3, 3, 4, 5, 4, 5, *range(6)]
    states = {"up": torch.arange(4.0).view(1, 2, 1, 2), "down": torch.arange(10.0, 18).view(1, 2, 4)}
    values = parameters_to_edges(graph, states)
    expected = [[0, 0], [1, 0], [2, 0], [3, 0], [10, 11], [14, 15], [12, 13], [16, 17]]
    assert values[:8, :, 0].tolist() == expected
    check_round_trip(graph, states)


def test_context_states_stay_in_order():
    graph = hand_made()
    states = {"weight": torch.randn(3, 2, 2, 2), "bias": torch.randn(3, 2)}
    values = parameters_to_edges(graph, states)
    for i in range(3):
        single = parameters_to_edges(graph, {name: tensor[i : i + 1] for name, tensor in states.items()})
        assert torch.equal(values[:, :, i : i + 1], single)


def check_against_loops(graph: NeuralGraph, states: dict[str, torch.Tensor]) -> None:
    """Endpoints, kinds and values edge by edge."""
    starts = first_nodes(graph)
    src, dst = (ends.tolist() for ends in edge_endpoints(graph))
    kinds, values = edge_kinds(graph).tolist(), parameters_to_edges(graph, states)
    assert len(src) == len(dst) == len(kinds) == len(values) == graph.num_edges + graph.num_nodes
    edge = 0
    for block in graph.edges:
        for part, i, j, to, start in block_pairs(block):
            assert src[edge] == starts[block.src.name] + start
            assert dst[edge] == starts[block.dst.name] + to
            assert kinds[edge] == block.kind
            expected = torch.zeros_like(values[edge])
            if block.parameter is None:
                expected[0] = 1
            else:
                expected[: block.num_taps] = block.view(states[block.parameter])[:, part, i, j].T
            assert torch.equal(values[edge], expected)
            edge += 1
    for node in range(graph.num_nodes):
        assert (src[edge + node], dst[edge + node], kinds[edge + node]) == (node, node, 13)
        assert (values[edge + node, 0] == 2).all()
        assert not values[edge + node, 1:].any()


def check_round_trip(graph: NeuralGraph, states: dict[str, torch.Tensor], taps: int | None = None) -> None:
    values = parameters_to_edges(graph, states, taps=taps)
    for i in range(values.shape[2]):
        back = list(edges_to_parameters(graph, values[:, :, i]))
        assert [name for name, _ in back] == list(graph.parameters)
        for name, tensor in back:
            assert tensor.dtype == states[name].dtype
            assert torch.equal(tensor, states[name][i])


@st.composite
def blocks(draw: st.DrawFn) -> tuple[NeuralGraph, dict[str, torch.Tensor]]:
    """Several parameters, dense, grouped, diagonal or with a shared end, of 1 to 30 taps, in any order of axes."""
    model, plans = nn.Module(), []
    for i in range(draw(st.integers(1, 3))):
        groups = draw(st.integers(1, 4))
        diagonal = draw(st.booleans())
        dst, src = (1, 1) if diagonal else (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
        taps = draw(st.integers(1, 30))
        axes, shape = draw(
            st.sampled_from(
                [
                    ("(group dst) src tap", (groups * dst, src, taps)),
                    ("(group src) dst tap", (groups * src, dst, taps)),
                    ("group tap dst src", (groups, taps, dst, src)),
                    ("(group dst) (src tap)", (groups * dst, src * taps)),
                    ("(group dst) (tap src)", (groups * dst, src * taps)),
                    ("dst (group tap src)", (dst, groups * taps * src)),
                    ("1 tap src (group dst)", (1, taps, src, groups * dst)),
                ]
            )
        )
        model.register_parameter(f"p{i}", nn.Parameter(torch.empty(shape)))
        shared = draw(st.sampled_from([None, "src", "dst"]))
        sizes = (src if shared == "src" else groups * src, dst if shared == "dst" else groups * dst)
        plans.append((axes, groups, shared, *sizes))
    builder = GraphBuilder(model)
    for i, (axes, groups, shared, src, dst) in enumerate(plans):
        source, destination = builder.neurons(f"s{i}", src), builder.neurons(f"d{i}", dst)
        plan = {"parameter": f"p{i}", "axes": axes, "groups": groups, "shared": shared}
        builder.edges(EdgeKind.CONVOLUTION, source, destination, **plan)
        if draw(st.booleans()):
            back = {"src": "dst", "dst": "src", None: None}[shared]
            builder.edges(EdgeKind.RESIDUAL, destination, source, groups=groups, shared=back)
    return builder.build(), states_of(model, draw(st.integers(1, 3)))


@settings(max_examples=60)
@given(blocks(), st.integers(0, 3))
def test_blocks_round_trip(case, spare):
    graph, states = case
    assert graph.max_taps <= 9
    check_round_trip(graph, states, taps=graph.max_taps + spare)


@settings(max_examples=15)
@given(blocks())
def test_blocks_equal_the_loops(case):
    check_against_loops(*case)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 7), min_size=2, max_size=5), st.booleans(), st.booleans())
def test_perceptrons_round_trip(sizes, bias, norm):
    layers = []
    for first, second in itertools.pairwise(sizes):
        layers += [nn.Linear(first, second, bias), nn.BatchNorm1d(second) if norm else nn.Identity(), nn.ReLU()]
    model = nn.Sequential(*layers)
    graph = ninokit.encode(model)
    check_round_trip(graph, states_of(model))


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=3),
    st.booleans(),
    st.data(),
)
def test_convolutional_networks_round_trip(dims, widths, transposed, data):
    conv = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    layers: list[nn.Module] = []
    channels = 4
    for groups_index, multiple, kernel in widths:
        groups = [1, 2, 4][groups_index - 1] if channels % 4 == 0 else 1
        size = 4 * multiple
        layers += [conv(channels, size, min(kernel, 3 if dims == 3 else 6), groups=groups), nn.GELU()]
        channels = size
    positions = data.draw(st.integers(1, 12))
    if data.draw(st.booleans()):
        layers += [nn.Flatten(), nn.Linear(channels * positions, 3)]
    model = nn.Sequential(*layers)
    check_round_trip(ninokit.encode(model), states_of(model, 2))


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2, bias=False)),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, (4, 3), groups=2)),
        lambda: nn.Sequential(nn.Conv1d(4, 8, 3, groups=4), nn.ConvTranspose1d(8, 6, 11, groups=2)),
        lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Conv3d(2, 2, 1, groups=2)),
    ],
)
def test_encoded_networks_equal_the_loops(model):
    layers = model()
    graph = ninokit.encode(layers)
    states = {name: p.detach()[None] for name, p in layers.named_parameters()}
    check_against_loops(graph, states)
    # The same, with nothing of the graph but its groups' names and order.
    names = [(group.name, i) for group in graph.neurons for i in range(group.size)]
    src, dst = edge_endpoints(graph)
    values = parameters_to_edges(graph, states)[: graph.num_edges, :, 0]
    widths = torch.cat([torch.full((block.num_edges,), block.num_taps) for block in graph.edges]).tolist()
    found = [
        (*names[a], *names[b], tuple(row[:width].tolist()))
        for a, b, row, width in zip(src, dst, values, widths, strict=False)
    ]
    assert len(found) == graph.num_edges
    assert set(found) == sequential_edges(layers)


def test_double_precision_survives():
    model = nn.Linear(3, 2).double()
    graph = ninokit.encode(model)
    assert parameters_to_edges(graph, states_of(model)).dtype == torch.float64
    check_round_trip(graph, states_of(model))


def test_states_of_buffers_do_not_disturb():
    model = nn.Linear(3, 2)
    graph, states = ninokit.encode(model), states_of(model)
    values = parameters_to_edges(graph, {"0.num_batches_tracked": torch.zeros(5, dtype=torch.int64), **states})
    assert torch.equal(values, parameters_to_edges(graph, states))


def test_what_comes_back_is_a_copy():
    model = nn.Linear(3, 2)
    graph = ninokit.encode(model)
    values = parameters_to_edges(graph, states_of(model, 1))[:, :, 0]
    before = values.clone()
    for _, tensor in edges_to_parameters(graph, values):
        tensor.zero_()
    assert torch.equal(values, before)


ERRORS = [
    ({"weight": (5, 2, 3)}, None, "states: the parameter 'bias' is missing (1 in all)"),
    ({}, None, "states: the parameter 'weight' is missing (2 in all)"),
    (
        {"weight": (5, 3, 2), "bias": (5, 2)},
        None,
        "states of weight: expected shape (context, 2, 3), got (5, 3, 2)",
    ),
    ({"weight": (5, 2, 3), "bias": (2,)}, None, "states of bias: expected shape (context, 2), got (2,)"),
    (
        {"weight": (5, 2, 3), "bias": (4, 2)},
        None,
        "states: all parameters need one number of context states, got [4, 5]",
    ),
    (
        {"weight": (5, 2, 3), "bias": (5, 2)},
        0,
        "taps: expected at least 1, which the widest edge needs, got 0",
    ),
]


@pytest.mark.parametrize(("shapes", "taps", "message"), ERRORS, ids=range(len(ERRORS)))
def test_error_messages(shapes, taps, message):
    graph = ninokit.encode(nn.Linear(3, 2))
    states = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        parameters_to_edges(graph, states, taps=taps)
