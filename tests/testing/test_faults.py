"""Wrong graphs fail, and the message names what is wrong."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import chain, repeat

import pytest
import torch
from hand_made import (
    ConvNet,
    ResidualMLP,
    Transformer,
    conv_graph,
    edited,
    exchanged,
    layer,
    mlp,
    mlp_graph,
    norm,
    residual_graph,
    rewired,
    some_tokens,
    transformer_graph,
    transposed,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ninokit.errors import EncodingError
from ninokit.graph import EdgeKind, Edges, GraphBuilder, NeuralGraph
from ninokit.graph.symmetry import find_symmetry
from ninokit.testing import check_encoding
from ninokit.testing.faults import Fault


def fault(model: nn.Module, inputs: object, graph: NeuralGraph) -> tuple[tuple[str, ...], str]:
    """What is named, and the last line of the message."""
    with pytest.raises(EncodingError) as caught:
        check_encoding(model, inputs, graph)
    return caught.value.culprits, str(caught.value).splitlines()[-1].removeprefix("  at fault: ")


@pytest.fixture
def residual() -> tuple[ResidualMLP, Tensor, NeuralGraph]:
    """A stream of 6 neurons (s0, s1, s2) and two hidden groups of 6 and 5."""
    model = ResidualMLP(5, 6, [6, 5], 3)
    return model, torch.randn(4, 5), residual_graph(model)


def test_whole_message(residual):
    model, inputs, graph = residual
    with pytest.raises(EncodingError) as caught:
        check_encoding(model, inputs, transposed(graph, "up.0.weight"))
    found = re.sub(r"\d\.\de-\d\d", "…", str(caught.value)).splitlines()
    assert sorted(found[1:3]) == [
        "  6 neurons of 'h0': moved alone, they change it by …",
        "  6 neurons of 's0', 's1', 's2': moved alone, they change it by …",
    ]
    assert [found[0], *found[3:]] == [
        "ResidualMLP: neurons that the graph calls interchangeable are not; "
        "moving them changes the output by … of its size, allowed is 1e-09",
        "  at fault: up.0.weight on the linear edges 's0' (6) → 'h0' (6); "
        "read as 'dst src' in place of 'src dst', the output stays",
    ]


@pytest.mark.parametrize("parameter", ["up.0.weight", "down.0.weight"])
def test_axes_exchanged(residual, parameter):
    model, inputs, graph = residual
    culprits, _ = fault(model, inputs, transposed(graph, parameter))
    assert culprits == (parameter,)


@pytest.mark.parametrize("parameter", ["0.weight", "2.weight", "4.weight"])
def test_axes_exchanged_beside_inputs_and_outputs(parameter):
    model = mlp(6, 6, 6, 6)
    culprits, advice = fault(model, torch.randn(4, 6), transposed(mlp_graph(model), parameter))
    assert culprits == (parameter,)
    assert advice.endswith("read as 'dst src' in place of 'src dst', the output stays")


def test_flattened_the_other_way_round():
    model = ConvNet()
    culprits, advice = fault(model, torch.randn(4, 3, 8, 8), conv_graph(model, "dst (tap src)"))
    assert culprits == ("head.weight",)
    assert advice == (
        "head.weight on the linear edges 'third' (12) → 'out' (5); "
        "read as 'dst (src tap)' in place of 'dst (tap src)', the output stays"
    )


@pytest.mark.parametrize("missing", [("s0", "s1"), ("s1", "s2")])
def test_residual_not_tied(residual, missing):
    model, inputs, graph = residual
    label = "residual edges {} → {}".format(*missing)
    culprits, advice = fault(model, inputs, edited(graph, lambda block: None if block.label == label else block))
    assert "s2" in culprits or "s1" in culprits
    assert len(culprits) == 2
    assert "tied by structural edges with groups=6, they are interchangeable" in advice


def test_residual_tied_to_others(residual):
    model, inputs, graph = residual
    groups = {group.name: group for group in graph.neurons}
    label = "residual edges s0 → s1"
    wrong = edited(graph, lambda block: replace(block, dst=groups["h0"]) if block.label == label else block)
    culprits, advice = fault(model, inputs, wrong)
    assert culprits == ("residual edges s0 → h0",)
    assert advice == "residual edges s0 → h0; wired to 's1' in place of 'h0', the output stays"


def test_norm_on_the_wrong_group(residual):
    model, inputs, graph = residual
    culprits, advice = fault(
        model, inputs, rewired(graph, {"norms.0.weight": ("dst", "h0"), "norms.0.bias": ("dst", "h0")})
    )
    assert culprits == ("norms.0.weight", "norms.0.bias")
    assert advice.endswith("; wired to 's0' in place of 'h0', the output stays")
    culprits, _ = fault(model, inputs, rewired(graph, {"norms.0.weight": ("dst", "h0")}))
    assert culprits == ("norms.0.weight",)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second, self.third = (
            nn.Linear(5, 6),
            nn.BatchNorm1d(6),
            nn.Linear(6, 6),
            nn.Linear(6, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.norm(self.first(x)).relu()).relu())


@pytest.mark.parametrize("place", ["b", "c"])
def test_batch_norm_on_the_wrong_group(place):
    model = Normed()
    builder = GraphBuilder(model)
    groups = {name: builder.neurons(name, size) for name, size in zip("abcd", (5, 6, 6, 3), strict=True)}
    for name, src, dst in [("first", "a", "b"), ("second", "b", "c"), ("third", "c", "d")]:
        layer(builder, name, groups[src], groups[dst])
    norm(builder, "norm", groups[place])
    if place == "b":
        assert check_encoding(model, torch.randn(4, 5), builder.build()).share > 0.9
    else:
        assert fault(model, torch.randn(4, 5), builder.build())[0] == ("norm.weight", "norm.bias")


def test_vector_on_neurons_that_stay():
    """The hidden neurons lack their bias, which stands at the outputs."""
    model = mlp(4, 5, 5)
    culprits, advice = fault(model, torch.randn(3, 4), rewired(mlp_graph(model), {"0.bias": ("dst", "g2")}))
    assert culprits == ("0.bias",)
    assert advice == (
        "0.bias on the bias edges '0.bias' (1) → 'g2' (5); wired to 'g1' in place of 'g2', the output stays"
    )


def test_vector_of_neurons_that_stay():
    model = mlp(4, 5, 5)
    culprits, advice = fault(model, torch.randn(3, 4), rewired(mlp_graph(model), {"2.bias": ("dst", "g1")}))
    assert culprits == ("2.bias",)
    assert advice == ("2.bias on the bias edges '2.bias' (1) → 'g1' (5); if unmoved when 'g1' is, the output stays")


@pytest.mark.parametrize(
    "pairs", [["0.weight 2.weight"], ["2.weight 4.weight"], ["2.weight 4.weight", "2.bias 4.bias"]]
)
def test_two_layers_swapped(pairs):
    model = mlp(6, 6, 6, 6, 3)
    pairs = [tuple(pair.split()) for pair in pairs]
    culprits, advice = fault(model, torch.randn(4, 6), exchanged(mlp_graph(model), *pairs))
    assert set(culprits) == {name for pair in pairs for name in pair}
    assert advice.endswith("; exchanged, the output stays")


@pytest.fixture
def attention() -> tuple[Transformer, Tensor, NeuralGraph]:
    model = Transformer()
    return model, some_tokens(model), transformer_graph(model)


def test_key_wired_as_value(attention):
    model, inputs, graph = attention
    groups = {group.name: group for group in graph.neurons}
    view = next(block.view for block in graph.edges if block.parameter == "v.weight")
    wrong = Edges(EdgeKind.VALUE, groups["s0"], groups["value"], 1, "k.weight", view)
    culprits, advice = fault(
        model, inputs, edited(graph, lambda block: wrong if block.parameter == "k.weight" else block)
    )
    assert culprits == ("k.weight",)
    assert advice == (
        "k.weight on the value edges 's0' (12) → 'value' (12); wired to 'query' in place of 'value', the output stays"
    )


@pytest.mark.parametrize("pair", [("q.weight", "v.weight"), ("v.weight", "o.weight")])
def test_attention_parameters_swapped(attention, pair):
    model, inputs, graph = attention
    assert set(fault(model, inputs, exchanged(graph, pair))[0]) == {*pair}


@pytest.mark.parametrize("parameter", ["q.weight", "k.weight", "v.weight", "o.weight"])
def test_axes_of_attention_exchanged(attention, parameter):
    model, inputs, graph = attention
    assert fault(model, inputs, transposed(graph, parameter))[0] == (parameter,)


@pytest.mark.parametrize(("right", "wrong"), [(2, 3), (3, 2), (4, 2), (2, 4), (4, 6), (3, 6), (3, 12)])
def test_heads_cut_wrongly(right, wrong):
    model = Transformer(right)
    culprits, advice = fault(model, some_tokens(model), transformer_graph(Transformer(wrong)))
    assert culprits == ("attention_head edges heads → query", "attention_head edges heads → value")
    assert advice.endswith(f"; with {right} slices in place of {wrong}, the output stays")


@pytest.mark.parametrize("group", ["query", "value"])
def test_heads_that_hold_one_group_alone(attention, group):
    model, inputs, graph = attention
    label = f"attention_head edges heads → {group}"
    culprits, advice = fault(model, inputs, edited(graph, lambda block: None if block.label == label else block))
    assert group in culprits
    assert "tied by structural edges with groups=3, they are interchangeable" in advice


def test_rotary_pairs_not_declared():
    model = Transformer(rotary=True)
    culprits, advice = fault(model, some_tokens(model), transformer_graph(model))
    assert culprits == ("query",)
    assert advice == "neurons 'query'; declared with rigid=4, they are interchangeable"


def test_neurons_that_the_network_tells_apart():
    class Weighed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(4, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers[2](self.layers[0](x) * torch.arange(5))

    model, known = Weighed(), mlp_graph(mlp(4, 5, 3))
    blocks = tuple(replace(block, parameter=f"layers.{block.parameter}") for block in known.edges)
    graph = NeuralGraph(known.neurons, blocks, {name: p.shape for name, p in model.named_parameters()})
    culprits, advice = fault(model, torch.randn(3, 4), graph)
    assert culprits == ()
    assert advice == (
        "no single block; the first of these neurons have the parameters layers.0.weight, layers.0.bias, "
        "layers.2.weight. If the network treats them differently, declare them rigid; "
        "if it adds them to others, tie them to these"
    )


def test_of_two_faults_one_is_named():
    model = mlp(4, 6, 6, 6, 6, 3)
    graph = transposed(transposed(mlp_graph(model), "2.weight"), "6.weight")
    culprits, _ = fault(model, torch.randn(4, 4), graph)
    assert culprits in {("2.weight",), ("6.weight",)}


def test_long_lists_are_cut():
    symmetry = find_symmetry(mlp_graph(mlp(*[5] * 12)))
    found = Fault(dict.fromkeys(symmetry.free, 0.5), None, tuple("abcdefghi"))
    lines = str(found).splitlines()
    assert lines[7:9] == ["  5 neurons of 'g8': moved alone, they change it by 5.0e-01", "  and 2 more such"]
    assert lines[9].startswith(
        "  at fault: no single block; the first of these neurons have the parameters a, b, c, d, e, f, g, h, …. If"
    )


def test_small_change_of_many(monkeypatch):
    """Rounding that only all permutations together make is no fault of a block."""
    model = mlp(4, 5, 5, 3)
    changes = chain([1e-8], repeat(1e-10))
    monkeypatch.setattr("ninokit.testing.twins.Twin.change", lambda *_: next(changes))
    culprits, advice = fault(model, torch.randn(2, 4), mlp_graph(model))
    assert culprits == ()
    assert advice == (
        "  no neurons alone change it as much; a network so sensitive to rounding needs a larger tolerance"
    )


# Any single fault.


def same_place(graph: NeuralGraph, first: str, second: str) -> bool:
    """Whether neurons are tied one by one, so that a block may stand at either."""
    cuts = find_symmetry(graph, roles={}).cuts
    return any(first in cut.leaves and second in cut.leaves for cut in cuts)


def wrong_wires(graph: NeuralGraph, size: int) -> list[tuple[str, str, str]]:
    """Each parameter's ends at all groups of the same size to which they do not belong."""
    groups = [group.name for group in graph.neurons if group.size == size]
    return [
        (block.parameter, end, group)
        for block in graph.edges
        for end in ("src", "dst")
        for group in groups
        if block.parameter and getattr(block, end).size == size
        if not same_place(graph, group, getattr(block, end).name)
        if (block.parameter, group) != ("head.bias", "in")  # neither inputs nor outputs move
    ]


def check_wrong_wire(model: ResidualMLP, graph: NeuralGraph, wire: tuple[str, str, str], seed: int = 0) -> None:
    parameter, end, group = wire
    inputs = torch.randn(4, model.embed.in_features)
    share = check_encoding(model, inputs, graph, seed=seed).share
    with pytest.raises(EncodingError) as caught:
        check_encoding(model, inputs, rewired(graph, {parameter: (end, group)}), min_share=share, seed=seed)
    if "moving them" not in str(caught.value):
        # A group has become an input or output. Nothing wrong moves, but too little does.
        assert "the permutations move" in str(caught.value)
    elif wire in {("embed.weight", "src", "out"), ("head.weight", "dst", "in")}:
        # Inputs and outputs are not told apart, so that one of several parameters may be wrong: none is named alone.
        assert caught.value.culprits == ()
    else:
        assert caught.value.culprits == (parameter,)


def test_every_wrong_wire_among_groups_of_one_size_is_found():
    model = ResidualMLP(4, 4, [4], 4)
    graph = residual_graph(model)
    wires = wrong_wires(graph, 4)
    assert len(wires) == 1 * 4 + 8 * 3 + 3 * 4 + 2 * 4 - 1  # ends at in, s0 and s1, h0, out
    for wire in wires:
        check_wrong_wire(model, graph, wire)


@settings(max_examples=10)
@given(st.integers(3, 5), st.integers(2, 3), st.data())
def test_any_wrong_wire_is_found(size, depth, data):
    model = ResidualMLP(size, size, [size] * depth, size)
    graph = residual_graph(model)
    check_wrong_wire(model, graph, data.draw(st.sampled_from(wrong_wires(graph, size))), data.draw(st.integers(0, 99)))


@settings(max_examples=8)
@given(st.integers(3, 5), st.integers(1, 2), st.integers(0, 10**6))
def test_any_two_parameters_swapped_are_found(size, depth, seed):
    chooser = random.Random(seed)
    model = ResidualMLP(size, size, [size] * depth, size)
    graph = residual_graph(model)
    first = chooser.choice([*graph.parameters])
    alike = [name for name, shape in graph.parameters.items() if shape == graph.parameters[first]]
    second = chooser.choice([name for name in alike if name != first])
    ends = [next((b.src.name, b.dst.name) for b in graph.blocks[name]) for name in (first, second)]
    # With the layers into the stream exchanged, it is the same graph after other names for "in" and a hidden group.
    assume("embed.weight" not in (first, second) or not {first, second} & {f"down.{i}.weight" for i in range(depth)})
    vectors = len(graph.parameters[first]) == 1
    assume(not all(a == b or same_place(graph, a, b) for a, b in list(zip(*ends, strict=True))[vectors:]))
    inputs = torch.randn(4, size, generator=torch.Generator().manual_seed(seed))
    with pytest.raises(EncodingError) as caught:
        check_encoding(model, inputs, exchanged(graph, (first, second)), seed=seed)
    assert set(caught.value.culprits) == {first, second}
