"""Parameters whose neurons move, against loops over edges."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_graphs import block_pairs
from torch import nn

from ninokit.errors import GraphError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.permutations import permute_parameter
from ninokit.graph.symmetry import find_symmetry


def convolution(groups: int, dst: int, src: int, taps: int) -> tuple[nn.Module, NeuralGraph]:
    model = nn.Conv1d(groups * src, groups * dst, taps, groups=groups, bias=False)
    builder = GraphBuilder(model)
    ends = builder.neurons("src", groups * src), builder.neurons("dst", groups * dst)
    builder.edges(EdgeKind.CONVOLUTION, *ends, parameter="weight", axes="(group dst) src tap", groups=groups)
    return model, builder.build()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 11]), st.integers(0, 99))
def test_edges_keep_their_numbers(groups, dst, src, taps, seed):
    model, graph = convolution(groups, dst, src, taps)
    old = model.weight.detach()
    orders = find_symmetry(graph, roles={}).draw(torch.Generator().manual_seed(seed))
    new = permute_parameter(graph.blocks["weight"], old, orders)
    came = {group.name: orders.get(group.name, torch.arange(group.size)).tolist() for group in graph.neurons}
    for _, _, _, d, s in block_pairs(graph.edges[0]):
        old_d, old_s = came["dst"][d], came["src"][s]
        assert torch.equal(new[d, s % src], old[old_d, old_s % src])
    assert torch.equal(old, model.weight)  # untouched


def test_windows_move_by_themselves():
    model = nn.Linear(4, 5, bias=False)
    builder = GraphBuilder(model)
    a, b, out = builder.neurons("a", 2), builder.neurons("b", 2), builder.neurons("out", 5)
    builder.edges(EdgeKind.LINEAR, a, out, parameter="weight", axes="dst src", window={1: (0, 2)})
    builder.edges(EdgeKind.LINEAR, b, out, parameter="weight", axes="dst src", window={1: (2, 4)})
    blocks = builder.build().blocks["weight"]
    moved = permute_parameter(blocks, model.weight, {"b": torch.tensor([1, 0])})
    assert torch.equal(moved, model.weight[:, [0, 1, 3, 2]])
    assert torch.equal(permute_parameter(blocks, model.weight, {}), model.weight)


def test_memory_of_any_layout():
    model = nn.Conv2d(2, 3, 2, bias=False)
    builder = GraphBuilder(model)
    ends = builder.neurons("src", 2), builder.neurons("dst", 3)
    builder.edges(EdgeKind.CONVOLUTION, *ends, parameter="weight", axes="dst src tap tap")
    graph = builder.build()
    orders = {"dst": torch.tensor([2, 0, 1])}
    strided = model.weight.detach().transpose(2, 3)
    with pytest.raises(RuntimeError, match="view"):
        graph.edges[0].view(strided)
    assert torch.equal(permute_parameter(graph.blocks["weight"], strided, orders), strided[[2, 0, 1]])


@pytest.mark.parametrize("orders", [{"dst": [1, 0, 2, 3]}, {"src": [0, 2, 1, 3]}, {"dst": [2, 3, 0, 1]}])
def test_slices_are_not_torn(orders):
    model, graph = convolution(2, 2, 2, 1)
    orders = {name: torch.tensor(order) for name, order in orders.items()}
    if orders.get("dst", torch.arange(4)).tolist() == [1, 0, 2, 3]:  # inside the slices
        assert torch.equal(permute_parameter(graph.blocks["weight"], model.weight, orders), model.weight[[1, 0, 2, 3]])
        return
    message = (
        "weight: the order of 'src' or of 'dst' tears apart the 2 slices that its edges join; "
        "move slices as wholes, and alike on both ends"
    )
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        permute_parameter(graph.blocks["weight"], model.weight, orders)
