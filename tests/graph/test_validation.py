from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from ninokit.errors import GraphError
from ninokit.graph import EdgeKind, Edges, GraphBuilder, NeuralGraph, Neurons
from ninokit.graph.lattice import Axis, Digit
from ninokit.graph.views import View, make_view

A, B = Neurons("a", 3), Neurons("b", 2)
VIEW = make_view((2, 3), "dst src", expected={"group": 1, "dst": 2, "src": 3})
SHAPES = {"w": torch.Size((2, 3))}


def refusal(message: str) -> pytest.RaisesExc:
    return pytest.raises(GraphError, match=f"^{re.escape(message)}$")


def test_whole_graph_is_accepted():
    NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, B, 1, "w", VIEW),), SHAPES)


def test_repeated_group():
    with refusal("neurons 'a' stand in the graph twice; give every group a name of its own"):
        NeuralGraph((A, B, Neurons("a", 5)), (), {})


def test_foreign_groups():
    stranger = Neurons("stranger", 2)
    with refusal("w: its neurons 'stranger' (2) are not in the graph"):
        NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, stranger, 1, "w", VIEW),), SHAPES)
    with refusal("residual edges stranger → b: its neurons 'stranger' (2) are not in the graph"):
        NeuralGraph((A, B), (Edges(EdgeKind.RESIDUAL, stranger, B, 2),), {})
    with refusal("residual edges b → b: its neurons 'b' (4) are not in the graph"):  # its name, not its size
        NeuralGraph((A, B), (Edges(EdgeKind.RESIDUAL, Neurons("b", 4), B, 2),), {})


def test_unknown_parameter():
    with refusal("v: the network has no parameter of this name; it has ['w']"):
        NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, B, 1, "v", VIEW),), SHAPES)


def test_view_of_another_size_than_the_groups():
    view = make_view((2, 3), "src dst", expected={"group": 1, "dst": 3, "src": 2})
    with refusal(
        "w: read as (group, dst, src) = (1, 3, 2), but its edges 'a' (3) → 'b' (2) in 1 slices need (1, 2, 3)"
    ):
        NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, B, 1, "w", view),), SHAPES)


def test_view_of_a_shared_end_that_was_cut():
    a, b = Neurons("a", 4), Neurons("b", 6)
    view = make_view((4, 3), "(group src) dst", expected={"group": 2, "dst": 3, "src": 2})
    shapes = {"w": torch.Size((4, 3))}
    NeuralGraph((a, b), (Edges(EdgeKind.LINEAR, a, b, 2, "w", view),), shapes)
    with refusal(
        "w: read as (group, dst, src) = (2, 3, 2), but its edges 'a' (4) → 'b' (6) in 2 slices need (2, 6, 2)"
    ):
        NeuralGraph((a, b), (Edges(EdgeKind.LINEAR, a, b, 2, "w", view, "dst"),), shapes)


def test_view_outside_the_parameter():
    with refusal("w: its view covers ((0, 2), (0, 3)), its shape is (2, 2)"):
        NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, B, 1, "w", VIEW),), {"w": torch.Size((2, 2))})


def test_view_of_too_small_a_part():
    with refusal("w: 2 of its 8 numbers (shape (2, 4)) are on no edge; add edges that carry them"):
        NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, B, 1, "w", VIEW),), {"w": torch.Size((2, 4))})


def test_view_of_another_number_of_axes():
    with refusal("w: its view covers ((0, 2), (0, 3)), its shape is (2, 3, 1)"):
        NeuralGraph((A, B), (Edges(EdgeKind.LINEAR, A, B, 1, "w", VIEW),), {"w": torch.Size((2, 3, 1))})


def test_view_that_needs_a_copy():
    one, pair = Neurons("one", 1), Neurons("pair", 4)
    view = View((Axis(0, (Digit("dst", 2, 3), Digit("dst", 2))),), (0, 1))
    with refusal("w: its view '(dst dst)' needs a copy of the shape (5,)"):
        NeuralGraph((one, pair), (Edges(EdgeKind.BIAS, one, pair, 1, "w", view),), {"w": torch.Size((5,))})


def test_interleaved_heads_cover_once():
    """Queries, keys and values of three heads of two, as one parameter has them: head by head."""
    stream, heads = Neurons("stream", 4), [Neurons(name, 6) for name in "qkv"]

    def graph(*starts: int) -> NeuralGraph:
        views = [
            View.of((18, 4), [Axis(start, (Digit("group", 3, 6), Digit("dst", 2))), Axis.split([("src", 4)])])
            for start in starts
        ]
        blocks = [
            Edges(EdgeKind.QUERY, stream, group, 3, "w", view, "src") for group, view in zip(heads, views, strict=False)
        ]
        return NeuralGraph((stream, *heads), tuple(blocks), {"w": torch.Size((18, 4))})

    assert graph(0, 2, 4).num_edges == 72
    with refusal("w: 24 of its 72 numbers (shape (18, 4)) are on no edge; add edges that carry them"):
        graph(0, 2)
    with refusal("w: covered twice, by the edges stream → k and stream → v; every number belongs on one edge"):
        graph(0, 2, 3)


def test_roles_of_strangers_and_other_roles():
    edges = (Edges(EdgeKind.LINEAR, A, B, 1, "w", VIEW),)
    NeuralGraph((A, B), edges, SHAPES, {"a": "input", "b": "output"})
    with refusal("roles: the graph has no neurons 'c', 'd'"):
        NeuralGraph((A, B), edges, SHAPES, {"d": "input", "a": "input", "c": "output"})
    with refusal("roles: neurons 'b' are 'input', 'output', 'input and output' or left out, got 'hidden'"):
        NeuralGraph((A, B), edges, SHAPES, {"a": "input", "b": "hidden"})


def test_a_parameter_left_out_is_on_no_edge():
    edges = (Edges(EdgeKind.LINEAR, A, B, 1, "w", VIEW),)
    assert NeuralGraph((A, B), edges, SHAPES, left_out=("v",)).num_parameters == 6
    with refusal("w: left out and among the parameters of the graph; it is one or the other"):
        NeuralGraph((A, B), edges, SHAPES, left_out=("v", "w"))


def test_taps_covered_twice_and_left_out():
    one = Neurons("one", 1)
    view = make_view((1, 1, 12), "dst src tap", expected={"group": 1, "dst": 1, "src": 1})

    def graph(*taps: tuple[int, int]) -> NeuralGraph:
        blocks = [Edges(EdgeKind.CONVOLUTION, one, one, 1, "k", replace(view, taps=part)) for part in taps]
        return NeuralGraph((one,), tuple(blocks), {"k": torch.Size((1, 1, 12))})

    assert graph((0, 9), (9, 12)).num_edges == 2
    with refusal("k: 2 of its 12 numbers (shape (1, 1, 12)) are on no edge; add edges that carry them"):
        graph((0, 5), (7, 12))
    with refusal("k: covered twice, by the edges one → one and one → one; every number belongs on one edge"):
        graph((0, 9), (6, 9))


def test_overlapping_windows_with_other_taps_are_not_mistaken_for_a_partition():
    # Numbers 2 and 3 of the six are read by both blocks, 4 and 5 by none.
    one = Neurons("one", 1)
    first, second = (View((Axis.split([("tap", 4)], start),), taps) for start, taps in [(0, (0, 4)), (2, (0, 2))])
    blocks = [Edges(EdgeKind.CONVOLUTION, one, one, 1, "k", view) for view in (first, second)]
    with refusal("k: covered twice, by the edges one → one and one → one; every number belongs on one edge"):
        NeuralGraph((one,), tuple(blocks), {"k": torch.Size((6,))})


Box = tuple[tuple[int, int], ...]


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    """A shape of two axes, cut into boxes by random cuts of random boxes."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    boxes: list[Box] = [tuple((0, size) for size in shape)]
    for _ in range(draw(st.integers(0, 6))):
        index, axis = draw(st.integers(0, len(boxes) - 1)), draw(st.integers(0, 1))
        start, stop = boxes[index][axis]
        if stop - start > 1:
            cut = draw(st.integers(start + 1, stop - 1))
            box = list(boxes.pop(index))
            for part in ((start, cut), (cut, stop)):
                box[axis] = part
                boxes.append(tuple(box))
    return shape, boxes


def graph_of(shape: tuple[int, ...], boxes: list[Box]) -> NeuralGraph:
    model = nn.Module()
    model.register_parameter("w", nn.Parameter(torch.empty(shape)))
    builder = GraphBuilder(model)
    for i, (rows, columns) in enumerate(boxes):
        dst = builder.neurons(f"dst{i}", rows[1] - rows[0])
        src = builder.neurons(f"src{i}", columns[1] - columns[0])
        window = {0: rows, 1: columns}
        builder.edges(EdgeKind.LINEAR, src, dst, parameter="w", axes="dst src", window=window)
    return builder.build()


@given(partitions())
def test_partition_is_accepted(case):
    shape, boxes = case
    assert graph_of(shape, boxes).num_edges == shape[0] * shape[1]


@given(partitions(), st.data())
def test_gap_is_refused(case, data):
    shape, boxes = case
    left_out = boxes.pop(data.draw(st.integers(0, len(boxes) - 1)))
    missing = (left_out[0][1] - left_out[0][0]) * (left_out[1][1] - left_out[1][0])
    total = shape[0] * shape[1]
    with refusal(f"w: {missing} of its {total} numbers (shape {shape}) are on no edge; add edges that carry them"):
        graph_of(shape, boxes)


@given(partitions(), st.data())
def test_overlap_is_refused(case, data):
    shape, boxes = case
    index, axis = data.draw(st.integers(0, len(boxes) - 1)), data.draw(st.integers(0, 1))
    start, stop = boxes[index][axis]
    wider = (max(start - 1, 0), min(stop + 1, shape[axis]))
    assume(wider != (start, stop))
    box = list(boxes[index])
    box[axis] = wider
    boxes[index] = tuple(box)
    with pytest.raises(GraphError, match=r"^w: covered twice, by the edges src\d+ → dst\d+ and src\d+ → dst\d+; "):
        graph_of(shape, boxes)


def test_a_parameter_of_thousands_of_blocks():
    model = nn.Module()
    model.head = nn.Parameter(torch.zeros(2, 30_000))
    builder = GraphBuilder(model)
    channels, outputs = builder.neurons("channels", 1), builder.neurons("outputs", 2)
    builder.edges(EdgeKind.LINEAR, channels, outputs, parameter="head", axes="dst (src tap)")
    graph = builder.build()
    assert len(graph.edges) == 3334
    twice = (
        "head: covered twice, by the edges channels → outputs and channels → outputs; every number belongs on one edge"
    )
    with refusal(twice):
        NeuralGraph(graph.neurons, (*graph.edges, graph.edges[1700]), graph.parameters)
