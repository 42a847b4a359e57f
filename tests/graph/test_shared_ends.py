"""Blocks with an end that all slices share are dense: their neurons move freely, whatever the parameter's axes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_graphs import block_pairs
from torch import nn

from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.permutations import permute_parameter
from ninokit.graph.symmetry import find_symmetry
from ninokit.testing import check_encoding, check_round_trip


def one_block(groups: int, src: int, dst: int, taps: int, shared: str, axes: str) -> NeuralGraph:
    """A parameter of `groups` slices, of `src` and `dst` neurons each."""
    sizes = {"group": groups, "dst": dst, "src": src, "tap": taps}
    shape = [torch.Size(sizes[label] for label in axis.strip("()").split()).numel() for axis in split(axes)]
    model = nn.Module()
    model.register_parameter("w", nn.Parameter(torch.empty(shape)))
    builder = GraphBuilder(model)
    source = builder.neurons("src", src if shared == "src" else groups * src)
    destination = builder.neurons("dst", dst if shared == "dst" else groups * dst)
    plan = {"parameter": "w", "axes": axes, "groups": groups, "shared": shared}
    builder.edges(EdgeKind.CONVOLUTION, source, destination, **plan)
    return builder.build()


def split(axes: str) -> list[str]:
    found, inside = [""], False
    for character in axes:
        inside = (inside or character == "(") and character != ")"
        if character == " " and not inside:
            found.append("")
        else:
            found[-1] += character
    return found


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 11)),
    st.sampled_from(["src", "dst"]),
    st.sampled_from(["dst (group tap src)", "group dst (src tap)", "(group src) tap dst", "tap src (group dst)"]),
    st.integers(0, 99),
)
def test_any_order_of_both_ends(sizes, shared, axes, seed):
    graph = one_block(*sizes, shared, axes)
    generator = torch.Generator().manual_seed(seed)
    orders = {group.name: torch.randperm(group.size, generator=generator) for group in graph.neurons}
    weight = torch.randn(graph.parameters["w"], generator=generator)
    moved = permute_parameter(graph.edges, weight, orders)
    for block in graph.edges:
        numbers = {}
        for part, i, j, dst, src in block_pairs(block):
            numbers[dst, src] = block.view(weight)[part, i, j], block.view(moved)[part, i, j]
        assert len(numbers) == graph.neurons[0].size * graph.neurons[1].size
        for (dst, src), (_, after) in numbers.items():
            before, _ = numbers[int(orders["dst"][dst]), int(orders["src"][src])]
            assert torch.equal(after, before)


def test_shared_ends_tie_nothing():
    graph = one_block(3, 2, 5, 2, "dst", "dst (group tap src)")
    symmetry = find_symmetry(graph, roles={})
    assert [(cut.number, cut.groups) for cut in symmetry.free] == [(5, ("dst",)), (6, ("src",))]


class Experts(nn.Module):
    """Every expert reads the inputs; all are summed, with two taps an edge."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(3, 4, 5))  # (experts, hidden, inputs)
        self.down = nn.Parameter(torch.empty(2, 3 * 2 * 4))  # (outputs, experts · taps · hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.einsum("ehi,bi->beh", self.up, x).tanh()
        both = torch.stack([hidden, hidden.square()], dim=2)
        return both.flatten(1) @ self.down.T

    def graph(self) -> NeuralGraph:
        builder = GraphBuilder(self)
        inputs, hidden, outputs = (builder.neurons(name, size) for name, size in [("i", 5), ("h", 12), ("o", 2)])
        builder.edges(EdgeKind.LINEAR, inputs, hidden, parameter="up", axes="group dst src", groups=3, shared="src")
        axes = "dst (group tap src)"
        builder.edges(EdgeKind.LINEAR, hidden, outputs, parameter="down", axes=axes, groups=3, shared="dst")
        return builder.build()


def test_network_of_experts():
    """Hidden neurons change places from expert to expert, since each reads and adds to the same."""
    model = Experts()
    graph = model.graph()
    report = check_encoding(model, torch.randn(4, 5), graph)
    assert (report.share, report.moved_neurons) == (1, 12)
    check_round_trip(graph)


def test_keys_with_neurons_of_their_own_are_hidden():
    """No parameter enters them, as their edges are drawn backwards, but they are no inputs."""
    model = nn.Module()
    for name, size in (("q", 8), ("k", 4), ("v", 4), ("embed", 3)):
        setattr(model, name, nn.Parameter(torch.empty(size, 6)))
    builder = GraphBuilder(model)
    tokens, stream = builder.neurons("tokens", 3), builder.neurons("stream", 6)
    query, key, value, heads = (builder.neurons(*group) for group in [("q", 8, 4), ("k", 4, 2), ("v", 4), ("heads", 2)])
    builder.edges(EdgeKind.TOKEN_EMBEDDING, tokens, stream, parameter="embed", axes="src dst")
    builder.edges(EdgeKind.QUERY, stream, query, parameter="q", axes="dst src")
    builder.edges(EdgeKind.KEY, key, stream, parameter="k", axes="src dst")
    builder.edges(EdgeKind.VALUE, stream, value, parameter="v", axes="dst src")
    for group in (query, key, value):
        builder.edges(EdgeKind.ATTENTION_HEAD, heads, group, groups=2)
    symmetry = find_symmetry(builder.build())
    assert symmetry.roles == {"tokens": "input"}
    assert {cut.groups for cut in symmetry.free if cut.number == 2} == {("q", "k", "v", "heads")}
