from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from ninokit.errors import GraphError
from ninokit.graph import EdgeKind, GraphBuilder, Neurons


def test_linear_layer():
    builder = GraphBuilder(nn.Linear(3, 2))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 2)
    builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, outputs, parameter="bias")
    graph = builder.build()
    assert [(g.name, g.size) for g in graph.neurons] == [("input", 3), ("output", 2), ("bias", 1)]
    assert [(b.kind, b.src.name, b.dst.name, b.groups, b.parameter) for b in graph.edges] == [
        (EdgeKind.LINEAR, "input", "output", 1, "weight"),
        (EdgeKind.BIAS, "bias", "output", 1, "bias"),
    ]
    assert graph.parameters == {"weight": (2, 3), "bias": (2,)}


@pytest.mark.parametrize(
    ("kernel", "taps"),
    [
        ((1, 1), [1]),
        ((3, 3), [9]),
        ((2, 5), [9, 1]),
        ((5, 5), [9, 9, 7]),
        ((3, 6), [9, 9]),
        ((7, 7), [9, 9, 9, 9, 9, 4]),
    ],
)
def test_wide_kernels_become_parallel_blocks(kernel, taps):
    builder = GraphBuilder(nn.Conv2d(3, 4, kernel, bias=False))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 4)
    builder.edges(EdgeKind.CONVOLUTION, inputs, outputs, parameter="weight", axes="dst src tap tap")
    graph = builder.build()
    assert [block.num_taps for block in graph.edges] == taps
    assert [block.num_edges for block in graph.edges] == [12] * len(taps)
    assert graph.max_taps == taps[0]
    weight = torch.arange(12 * sum(taps)).view(4, 3, *kernel)
    assert torch.equal(torch.cat([block.view(weight) for block in graph.edges], -1)[0], weight.flatten(2))


def test_fused_parameter_in_windows():
    model = nn.Linear(4, 12)
    builder = GraphBuilder(model)
    stream = builder.neurons("stream", 4)
    for i, name in enumerate("qkv"):
        part = builder.neurons(name, 4)
        window = {0: (4 * i, 4 * i + 4)}
        builder.edges(EdgeKind.QUERY, stream, part, parameter="weight", axes="dst src", window=window)
        builder.vector(EdgeKind.BIAS, part, parameter="bias", window=window)
    graph = builder.build()
    assert [g.name for g in graph.neurons] == ["stream", "q", "bias[q]", "k", "bias[k]", "v", "bias[v]"]
    for i, block in enumerate(block for block in graph.edges if block.parameter == "weight"):
        assert torch.equal(block.view(model.weight)[0, :, :, 0], model.weight[4 * i : 4 * i + 4])


def test_windows_with_a_step():
    """Channels that take turns, as after a shuffle of two groups."""
    model = nn.Linear(3, 4)
    builder = GraphBuilder(model)
    inputs = builder.neurons("inputs", 3)
    for start in (0, 1):
        part = builder.neurons(f"part{start}", 2)
        window = {0: (start, 4, 2)}
        builder.edges(EdgeKind.LINEAR, inputs, part, parameter="weight", axes="dst src", window=window)
        builder.vector(EdgeKind.BIAS, part, parameter="bias", window=window)
    weights, biases = (builder.build().blocks[name] for name in ("weight", "bias"))
    for start in (0, 1):
        assert torch.equal(weights[start].view(model.weight)[0, :, :, 0], model.weight[start::2])
        assert torch.equal(biases[start].view(model.bias).flatten(), model.bias[start::2])


def test_grouped_queries_read_a_shared_destination():
    """Two values of two neurons, each read by three queries: (query, value) can't be merged without a copy."""
    model = nn.Linear(12, 5, bias=False)
    builder = GraphBuilder(model)
    values, outputs = builder.neurons("values", 4), builder.neurons("outputs", 5)
    plan = {"parameter": "weight", "axes": "dst (group tap src)"}
    builder.edges(EdgeKind.LINEAR, values, outputs, **plan, groups=2, shared="dst")
    (block,) = builder.build().edges
    assert (block.shared, block.groups, block.num_taps, block.num_edges) == ("dst", 2, 3, 20)
    read = block.view(model.weight)
    for g, d, s, t in torch.cartesian_prod(*map(torch.arange, (2, 5, 2, 3))).tolist():
        assert read[g, d, s, t] == model.weight[d, g * 6 + t * 2 + s]
    with refusal(
        "weight on the edges 'values' (4) → 'values' (4): shape (5, 12) read as 'dst (group tap src)' has size 5 in "
        "'dst', expected 4"
    ):
        builder.edges(EdgeKind.LINEAR, values, values, **plan, groups=2, shared="dst")
    with refusal("weight: 3 slices do not divide 4 neurons of 'values'"):
        builder.edges(EdgeKind.LINEAR, values, outputs, **plan, groups=3, shared="dst")


def test_scalar_parameter_has_one_edge():
    model = nn.Module()
    model.register_parameter("temperature", nn.Parameter(torch.tensor(2.0)))
    builder = GraphBuilder(model)
    output = builder.neurons("output", 1)
    builder.vector(EdgeKind.BIAS, output, parameter="temperature", axes="")
    graph = builder.build()
    assert graph.num_edges == graph.num_parameters == 1


def test_tied_parameters_are_covered_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    builder = GraphBuilder(model)
    a, b = builder.neurons("a", 3), builder.neurons("b", 3)
    builder.edges(EdgeKind.LINEAR, a, b, parameter="0.weight", axes="dst src")
    assert builder.build().num_parameters == 9


def refusal(message: str) -> pytest.RaisesExc:
    return pytest.raises(GraphError, match=f"^{re.escape(message)}$")


def test_missing_parameter_is_named():
    builder = GraphBuilder(nn.Linear(3, 2))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 2)
    builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src")
    with refusal("bias: 2 of its 2 numbers (shape (2,)) are on no edge; add edges that carry them"):
        builder.build()


def test_half_covered_parameter_is_named():
    builder = GraphBuilder(nn.Linear(3, 2, bias=False))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 1)
    builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src", window={0: (1, 2)})
    with refusal("weight: 3 of its 6 numbers (shape (2, 3)) are on no edge; add edges that carry them"):
        builder.build()


def test_parameter_covered_twice_is_named():
    builder = GraphBuilder(nn.Linear(3, 2, bias=False))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 2)
    other = builder.neurons("other", 2)
    for destinations in (outputs, other):
        builder.edges(EdgeKind.LINEAR, inputs, destinations, parameter="weight", axes="dst src")
    with refusal(
        "weight: covered twice, by the edges input → output and input → other; every number belongs on one edge"
    ):
        builder.build()


def test_wrong_shape_names_parameter_shape_and_groups():
    builder = GraphBuilder(nn.Linear(3, 2))
    inputs, outputs = builder.neurons("input", 4), builder.neurons("output", 2)
    with refusal(
        "weight on the edges 'input' (4) → 'output' (2): shape (2, 3) read as 'dst src' has size 3 in 'src', expected 4"
    ):
        builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src")
    with refusal("weight on the edges 'input' (4) → 'output' (2): axes '' name 0 axes, but the shape (2, 3) has 2"):
        builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight")
    with refusal(
        "bias on the edges 'bias' (1) → 'input' (4): shape (2,) read as 'dst' has size 2 in 'dst', expected 4"
    ):
        builder.vector(EdgeKind.BIAS, inputs, parameter="bias")


def test_unknown_parameter_lists_the_known():
    builder = GraphBuilder(nn.Linear(3, 2))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 2)
    with refusal("wieght: the network has no parameter of this name; it has ['bias', 'weight']"):
        builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="wieght", axes="dst src")


def test_buffers_are_no_parameters():
    builder = GraphBuilder(nn.BatchNorm1d(2))
    features = builder.neurons("features", 2)
    with refusal("running_mean: the network has no parameter of this name; it has ['bias', 'weight']"):
        builder.vector(EdgeKind.BIAS, features, parameter="running_mean")


def test_group_names_are_unique():
    builder = GraphBuilder(nn.Linear(3, 2))
    builder.neurons("a", 3)
    with refusal("neurons 'a' stand in the graph twice; give every group a name of its own"):
        builder.neurons("a", 2)
    with refusal("neurons 'b': expected at least one neuron, got 0"):
        builder.neurons("b", 0)
    with refusal("neurons 'b': rigid runs of 4 do not divide 6 neurons"):
        builder.neurons("b", 6, rigid=4)
    assert builder.neurons("b", 6, rigid=3) == Neurons("b", 6, 3)


def test_vector_of_a_taken_name_is_refused():
    builder = GraphBuilder(nn.Linear(3, 2))
    outputs = builder.neurons("bias", 2)
    with refusal("neurons 'bias' stand in the graph twice; give every group a name of its own"):
        builder.vector(EdgeKind.BIAS, outputs, parameter="bias")


@pytest.mark.parametrize("slices", [0, 2, 4])
def test_indivisible_slices_name_the_parameter(slices):
    builder = GraphBuilder(nn.Linear(3, 4))
    inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 4)
    with refusal(f"weight: {slices} slices do not divide 3 neurons of 'input' and 4 of 'output'"):
        builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src", groups=slices)


def test_group_of_another_builder_is_refused():
    builder, other = GraphBuilder(nn.Linear(3, 2, bias=False)), GraphBuilder(nn.Linear(3, 2))
    inputs, outputs = builder.neurons("input", 3), other.neurons("elsewhere", 2)
    builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src")
    with refusal("weight: its neurons 'elsewhere' (2) are not in the graph"):
        builder.build()
