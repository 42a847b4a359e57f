"""Proofs of graphs whose parameters are read in strides, that know their inputs, or that leave something out."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hand_made import mlp, mlp_graph
from torch import Tensor, nn
from torch.nn import functional

from ninokit.errors import EncodingError
from ninokit.graph import EdgeKind, Edges, NeuralGraph, Neurons
from ninokit.graph.lattice import Axis, Digit
from ninokit.graph.symmetry import find_symmetry
from ninokit.graph.views import View
from ninokit.testing import check_encoding
from ninokit.testing.repairs import repairs
from ninokit.testing.round_trips import check_round_trip

HEADS, SIZE, WIDTH = 3, 2, 6


class Interleaved(nn.Module):
    """Attention whose query, key and value of a head stand together in one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        read = self.qkv(x).unflatten(-1, (HEADS, 3 * SIZE)).transpose(1, 2)
        return self.out(functional.scaled_dot_product_attention(*read.chunk(3, -1)).transpose(1, 2).flatten(2))


def interleaved_graph(starts: tuple[int, int, int] = (0, SIZE, 2 * SIZE)) -> NeuralGraph:
    stream, heads, out = Neurons("stream", WIDTH), Neurons("heads", HEADS), Neurons("out", 4)
    parts = {name: Neurons(name, WIDTH) for name in ("query", "key", "value")}
    columns = Axis.split([("src", WIDTH)])
    blocks = []
    for part, start in zip(parts.values(), starts, strict=True):
        rows = Axis(start, (Digit("group", HEADS, 3 * SIZE), Digit("dst", SIZE)))
        view = View.of((3 * WIDTH, WIDTH), [rows, columns])
        blocks.append(Edges(EdgeKind.LINEAR, stream, part, HEADS, "qkv.weight", view, "src"))
        blocks.append(Edges(EdgeKind.ATTENTION_HEAD, heads, part, HEADS))
    blocks.append(Edges(EdgeKind.RESIDUAL, parts["query"], parts["key"], WIDTH))
    view = View.of((4, WIDTH), [Axis.split([("dst", 4)]), columns])
    blocks.append(Edges(EdgeKind.LINEAR, parts["value"], out, 1, "out.weight", view))
    shapes = {"qkv.weight": torch.Size((3 * WIDTH, WIDTH)), "out.weight": torch.Size((4, WIDTH))}
    roles = {"stream": "input", "out": "output"}
    return NeuralGraph((stream, *parts.values(), heads, out), tuple(blocks), shapes, roles)


def test_interleaved_heads():
    report = check_encoding(Interleaved(), torch.randn(2, 5, WIDTH), interleaved_graph(), min_share=1)
    assert report.fixed == {"stream": "input", "out": "output"}
    check_round_trip(interleaved_graph())


def test_interleaved_heads_in_another_order_are_found_out():
    with pytest.raises(EncodingError, match=r"^Interleaved: neurons that the graph calls interchangeable are not"):
        check_encoding(Interleaved(), torch.randn(2, 5, WIDTH), interleaved_graph((0, 2 * SIZE, SIZE)))


class TakesTurns(nn.Module):
    """The even outputs of a layer and the odd ones go different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(4, 8, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x.tanh())
        return self.head(mixed[..., ::2].tanh() * mixed[..., 1::2].sigmoid())


def turns_graph(labels: tuple[str, str] = ("dst", "src")) -> NeuralGraph:
    groups = inputs, even, odd, out = tuple(Neurons(*of) for of in [("in", 4), ("even", 4), ("odd", 4), ("out", 3)])
    first, second = labels
    views = [View.of((8, 4), [Axis.split([(first, 4)], start, 2), Axis.split([(second, 4)])]) for start in (0, 1)]
    head = View.of((3, 4), [Axis.split([("dst", 3)]), Axis.split([("src", 4)])])
    blocks = (
        *(Edges(EdgeKind.LINEAR, inputs, dst, 1, "mix.weight", v) for dst, v in zip((even, odd), views, strict=True)),
        Edges(EdgeKind.RESIDUAL, odd, even, 4),
        Edges(EdgeKind.LINEAR, even, out, 1, "head.weight", head),
    )
    shapes = {"mix.weight": torch.Size((8, 4)), "head.weight": torch.Size((3, 4))}
    return NeuralGraph(groups, blocks, shapes)


def test_outputs_that_take_turns():
    report = check_encoding(TakesTurns(), torch.randn(5, 4), turns_graph(), min_share=1)
    assert report.fixed == {"in": "input", "out": "output"}


def test_a_strided_slice_read_the_wrong_way_round_is_repaired():
    graph = turns_graph()
    wrong = replace(graph, edges=(turns_graph(("src", "dst")).edges[0], *graph.edges[1:]))
    with pytest.raises(EncodingError, match=r"; read as 'dst src' in place of 'src dst', the output stays$") as caught:
        check_encoding(TakesTurns(), torch.randn(5, 4), wrong)
    assert caught.value.culprits == ("mix.weight",)


def test_roles_that_the_flow_does_not_tell():
    """A network that returns its hidden neurons too: to the flow they are inner."""

    class Both(nn.Sequential):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self[0](x)
            return hidden, self[1](hidden)

    model = Both(nn.Linear(4, 5), nn.Linear(5, 3))
    graph = mlp_graph(model)
    with pytest.raises(EncodingError, match=r"^Both: neurons that the graph calls interchangeable are not"):
        check_encoding(model, torch.randn(2, 4), graph)
    known = replace(graph, roles={"g0": "input", "g1": "output", "g2": "output"})
    assert check_encoding(model, torch.randn(2, 4), known).fixed == known.roles


def test_repairs_keep_roles_and_what_is_left_out():
    graph = replace(mlp_graph(mlp(4, 6, 6, 3)), roles={"g0": "input", "g3": "output"}, left_out=("unused",))
    found = [repair.graph for family in repairs(graph, find_symmetry(graph), {"g1", "g2"}) for repair in family]
    assert found
    assert all((repaired.roles, repaired.left_out) == (graph.roles, graph.left_out) for repaired in found)


def test_a_slice_with_gaps_is_read_the_other_way_round_in_place():
    """Two heads of four, of which the parameter has four more rows each: only the ends may be exchanged."""
    stream, heads, others = Neurons("stream", 4), Neurons("heads", 8), Neurons("others", 8)
    blocks = []
    for start, group in [(0, heads), (4, others)]:
        rows = Axis(start, (Digit("group", 2, 8), Digit("dst", 4)))
        view = View.of((16, 4), [rows, Axis.split([("src", 4)])])
        blocks.append(Edges(EdgeKind.LINEAR, stream, group, 2, "w", view, "src"))
    graph = NeuralGraph((stream, heads, others), tuple(blocks), {"w": torch.Size((16, 4))})
    axes = repairs(graph, find_symmetry(graph), {"heads"})[1]
    (changed,) = (repair.graph.edges for repair in axes)
    rows = Axis(0, (Digit("group", 2, 8), Digit("src", 4)))
    assert changed == (replace(blocks[0], view=View.of((16, 4), [rows, Axis.split([("dst", 4)])])), blocks[1])


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


def unused_graph(*left_out: str) -> NeuralGraph:
    chain = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    graph = mlp_graph(chain)
    names = {"0": "first", "1": "second"}
    new = {name: names[name[0]] + name[1:] for name in graph.parameters}
    blocks = tuple(replace(block, parameter=new.get(block.parameter)) for block in graph.edges)
    shapes = {new[name]: shape for name, shape in graph.parameters.items()}
    return NeuralGraph(graph.neurons, blocks, shapes, left_out=left_out)


def test_parameters_left_out():
    report = check_encoding(Unused(), torch.randn(2, 4), unused_graph("third.weight", "third.bias"))
    assert (report.parameters, report.silent) == (4 * 5 + 5 + 5 * 3 + 3, ())


def refusal(message: str) -> pytest.RaisesExc:
    return pytest.raises(EncodingError, match=f"^{re.escape(message)}$")


def test_parameters_left_out_are_the_other_ones_of_the_network():
    with refusal("third.bias: shape (3,) in Unused, none in the graph; give a graph of this network"):
        check_encoding(Unused(), torch.randn(2, 4), unused_graph("third.weight"))
    with refusal("fourth: shape none in Unused, left out in the graph; give a graph of this network"):
        check_encoding(Unused(), torch.randn(2, 4), unused_graph("third.weight", "third.bias", "fourth"))


def test_a_parameter_that_is_used_is_not_left_out():
    class Used(Unused):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.third.bias

    message = (
        "Used: the graph leaves out third.bias, but the output depends on what it leaves out; add edges that carry "
        "what the network uses"
    )
    with refusal(message) as caught:
        check_encoding(Used(), torch.randn(2, 4), unused_graph("third.weight", "third.bias"))
    assert caught.value.culprits == ("third.bias",)
