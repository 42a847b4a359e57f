"""Places of hand-made graphs in their pictures, worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.layout import Stage, break_rows, lay_out

LINEAR, KEY, QUERY, VALUE = EdgeKind.LINEAR, EdgeKind.KEY, EdgeKind.QUERY, EdgeKind.VALUE
RESIDUAL, HEAD = EdgeKind.RESIDUAL, EdgeKind.ATTENTION_HEAD


def make_graph(names: str, *blocks: tuple[EdgeKind, str, str], size: int = 2) -> NeuralGraph:
    """Groups of one size, separated by spaces in `names`, and dense or (structural) diagonal blocks."""
    model = nn.Module()
    for number, (kind, _, _) in enumerate(blocks):
        if not kind.structural:
            model.register_parameter(f"w{number}", nn.Parameter(torch.zeros(size, size)))
    builder = GraphBuilder(model)
    groups = {name: builder.neurons(name, size) for name in names.split()}
    for number, (kind, src, dst) in enumerate(blocks):
        if kind.structural:
            builder.edges(kind, groups[src], groups[dst], groups=size)
        else:
            builder.edges(kind, groups[src], groups[dst], parameter=f"w{number}", axes="dst src")
    return builder.build()


def columns(graph: NeuralGraph) -> dict[str, int]:
    return {name: place.column for name, place in lay_out(graph).places.items()}


def test_a_chain_stands_in_order_on_one_lane():
    graph = make_graph("c b a", (LINEAR, "b", "c"), (LINEAR, "a", "b"))
    assert lay_out(graph).places == {"a": (0, 0.0), "b": (1, 0.0), "c": (2, 0.0)}


def test_a_residual_runs_straight_below_what_it_skips():
    graph = make_graph("a b c", (LINEAR, "a", "b"), (LINEAR, "b", "c"), (RESIDUAL, "a", "c"))
    layout = lay_out(graph)
    assert layout.places == {"a": (0, 0.0), "b": (1, 1.0), "c": (2, 0.0)}
    assert {(r.left, r.right): r.places for r in layout.routes} == {
        ("a", "b"): ((0, 0.0), (1, 1.0)),
        ("b", "c"): ((1, 1.0), (2, 0.0)),
        ("a", "c"): ((0, 0.0), (1, 0.0), (2, 0.0)),
    }


def test_the_longest_of_several_residuals_is_at_the_bottom():
    graph = make_graph(
        "a b c d",
        (RESIDUAL, "a", "d"),
        (LINEAR, "a", "b"),
        (LINEAR, "b", "c"),
        (RESIDUAL, "a", "c"),
        (LINEAR, "c", "d"),
    )
    places = {(r.left, r.right): r.places for r in lay_out(graph).routes}
    assert places["a", "c"][1] == (1, pytest.approx(0, abs=0.5))
    assert places["a", "d"][1].lane == places["a", "c"][1].lane - 1
    assert places["a", "b"][1].lane == places["a", "c"][1].lane + 1


def test_a_key_runs_back_and_shares_its_way_with_the_query():
    layout = lay_out(make_graph("stream query", (QUERY, "stream", "query"), (KEY, "query", "stream")))
    assert layout.places == {"stream": (0, 0.0), "query": (1, 0.0)}
    assert [(route.left, route.right) for route in layout.routes] == [("stream", "query")]


def test_keys_of_their_own_stand_beside_queries_and_heads_behind_both():
    graph = make_graph(
        "stream query key heads",
        *[(HEAD, "heads", "query"), (HEAD, "heads", "key"), (QUERY, "stream", "query"), (KEY, "key", "stream")],
    )
    assert columns(graph) == {"stream": 0, "query": 1, "key": 1, "heads": 2}
    assert lay_out(graph).places["heads"].lane == lay_out(graph).places["stream"].lane == 0


@pytest.mark.parametrize("order", ["a b c", "b c a", "c a b"])
def test_a_cycle_is_cut_where_the_groups_begin(order):
    blocks = [(LINEAR, "a", "b"), (LINEAR, "b", "c"), (LINEAR, "c", "a")]
    names = order.split()
    assert columns(make_graph(order, *blocks)) == dict(zip(names, range(3), strict=True))


def test_a_group_that_leads_to_itself():
    layout = lay_out(make_graph("a b", (LINEAR, "a", "b"), (LINEAR, "b", "b")))
    assert layout.places == {"a": (0, 0.0), "b": (1, 0.0)}
    assert len(layout.routes) == 1


def test_a_group_without_edges_stands_at_the_start_clear_of_the_others():
    layout = lay_out(make_graph("a b alone", (LINEAR, "a", "b")))
    assert layout.places == {"a": (0, 0.5), "b": (1, 0.5), "alone": (0, -0.5)}


def test_what_begins_a_path_stands_just_before_what_it_leads_to():
    graph = make_graph("a b c late", (LINEAR, "a", "b"), (LINEAR, "b", "c"), (LINEAR, "late", "c"))
    assert columns(graph) == {"a": 0, "b": 1, "c": 2, "late": 1}


def test_columns_are_longest_paths():
    graph = make_graph("x a b c d", (LINEAR, "x", "d"), (LINEAR, "a", "b"), (LINEAR, "b", "c"), (LINEAR, "c", "d"))
    assert columns(graph) == {"a": 0, "b": 1, "c": 2, "x": 2, "d": 3}


def test_what_the_column_before_a_layer_feeds_begins_the_layer():
    blocks = [(QUERY, "s", "l.0.q"), (HEAD, "l.0.h", "l.0.q"), (HEAD, "l.0.kv", "l.0.h"), (HEAD, "l.0.kv", "l.0.k")]
    graph = make_graph("s l.0.q l.0.h l.0.k l.0.kv", *blocks, (KEY, "l.0.k", "s"))
    assert columns(graph) == {"s": 0, "l.0.q": 1, "l.0.k": 1, "l.0.h": 2, "l.0.kv": 3}


def test_a_single_neuron_that_something_acts_on_has_a_place():
    graph = make_graph("a b c", (LINEAR, "a", "b"), (EdgeKind.BIAS, "b", "c"), size=1)
    assert columns(graph) == {"a": 0, "b": 1, "c": 2}


def test_a_dead_end_gives_way():
    places = lay_out(make_graph("a b end c", (LINEAR, "a", "b"), (LINEAR, "a", "end"), (LINEAR, "b", "c"))).places
    assert [places[name].lane for name in "abc"] == pytest.approx([0, 0, 0], abs=0.02)
    assert places["end"].lane == pytest.approx(-1, abs=0.02)


def test_a_late_beginning_stands_above():
    graph = make_graph("a b c late", (LINEAR, "a", "b"), (LINEAR, "b", "c"), (LINEAR, "late", "c"))
    assert {name: place.lane for name, place in lay_out(graph).places.items()} == {"a": 0, "b": 0, "late": 1, "c": 0.5}


def test_biases_and_norms_are_beside_what_they_act_on_but_single_inputs_are_not():
    model = nn.ParameterDict(
        {"w": torch.zeros(3, 1), "bias": torch.zeros(3), "scale": torch.zeros(3), "token": torch.zeros(3)}
    )
    builder = GraphBuilder(model)
    inputs, outputs = builder.neurons("input", 1), builder.neurons("output", 3)
    builder.edges(LINEAR, inputs, outputs, parameter="w", axes="dst src")
    builder.vector(EdgeKind.BIAS, outputs, parameter="bias")
    builder.vector(EdgeKind.NORM_SCALE, outputs, parameter="scale")
    builder.vector(EdgeKind.TOKEN_EMBEDDING, outputs, parameter="token")
    layout = lay_out(builder.build())
    assert layout.beside == {"bias": "output", "scale": "output"}
    assert layout.places == {"input": (0, 0.5), "token": (0, -0.5), "output": (1, 0.0)}


def test_repeated_layers_have_columns_of_their_own():
    names = ["in", "net.layers.0.a", "net.layers.0.b", "net.layers.1.a", "net.layers.1.b", "out"]
    blocks = [(LINEAR, before, after) for before, after in pairwise(names)]
    layout = lay_out(make_graph(" ".join(names), *blocks, (RESIDUAL, "in", "net.layers.1.b")))
    assert layout.stages == (("", 0, 0), ("net.layers.0", 1, 2), ("net.layers.1", 3, 4), ("", 5, 5))
    assert [place.column for place in layout.places.values()] == list(range(6))


@pytest.mark.parametrize("names", [["in", "0.a", "0.b"], ["0", "2", "4"], ["features.0.a", "features.2.a", "head"]])
def test_numbers_alone_and_single_groups_are_no_layers(names):
    blocks = [(LINEAR, before, after) for before, after in pairwise(names)]
    assert lay_out(make_graph(" ".join(names), *blocks)).stages == (("", 0, 2),)


def test_rows_break_between_layers():
    stages = [Stage("", 0, 1), *(Stage(f"layers.{n}", 2 + 4 * n, 5 + 4 * n) for n in range(3)), Stage("", 14, 14)]
    assert break_rows(stages, 4) == (range(6), range(6, 10), range(10, 15))
    assert break_rows(stages, 8) == (range(10), range(10, 15))
    assert break_rows(stages, 100) == (range(15),)


def test_a_stage_that_fits_into_no_row_is_cut():
    assert break_rows([Stage("", 0, 10)], 4) == (range(4), range(4, 8), range(8, 11))


@given(st.data())
def test_any_graph_has_places_apart(data):
    names = [f"layers.{n // 3}.{'abc'[n % 3]}" for n in range(data.draw(st.integers(1, 7)))]
    ends = st.sampled_from(names)
    blocks = data.draw(st.lists(st.tuples(st.sampled_from([LINEAR, KEY, RESIDUAL, HEAD]), ends, ends), max_size=12))
    layout = lay_out(make_graph(" ".join(names), *blocks))
    assert list(layout.places) == names
    taken: dict[int, list[float]] = {}
    for place in layout.places.values():
        taken.setdefault(place.column, []).append(place.lane)
    for route in layout.routes:
        assert [place.column for place in route.places] == list(
            range(layout.places[route.left].column, layout.places[route.right].column + 1)
        )
        for place in route.places[1:-1]:
            taken[place.column].append(place.lane)
    for lanes in taken.values():
        lanes.sort()
        assert all(above - below >= 0.99 for below, above in pairwise(lanes))
    assert sorted(taken) == list(range(layout.stages[-1].last + 1))
    for limit in (1, 3, 20):
        assert [column for row in break_rows(layout.stages, limit) for column in row] == sorted(taken)
