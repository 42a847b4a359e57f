"""Traced graphs are those of the hand-written encoders, up to the names of the groups and the order of the blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformer_networks import huggingface, images, one_text, text

import ninokit
from ninokit.graph import EdgeKind, NeuralGraph, trace

Signature = tuple[Any, ...]


def signatures(graph: NeuralGraph) -> dict[str, Signature]:
    """How many neurons each group has, and the blocks that they are an end of; its name does not count.

    Neither does the order of inputs and outputs, which stay in place whether the graph says so or not.
    """
    found: dict[str, list[Signature]] = {group.name: [] for group in graph.neurons}
    for block in graph.edges:
        if block.view is not None:
            what = (block.parameter, block.kind.name, block.view.window, block.view.taps, block.groups, block.shared)
            for end, group, other in (("src", block.src, block.dst), ("dst", block.dst, block.src)):
                found[group.name].append((end, *(str(part) for part in what), other.size))
    inner = {block.src.name for block in graph.edges} & {block.dst.name for block in graph.edges}
    rigid = {group.name: group.rigid if group.name in inner else 0 for group in graph.neurons}
    return {group.name: (group.size, rigid[group.name], *sorted(found[group.name])) for group in graph.neurons}


def structure(graph: NeuralGraph) -> Counter[Signature]:
    known = signatures(graph)
    return Counter(
        (block.kind.name, known[block.src.name], known[block.dst.name], block.groups)
        for block in graph.edges
        if block.view is None
    )


def assert_same(traced: NeuralGraph, encoded: NeuralGraph) -> None:
    assert traced.parameters == encoded.parameters
    assert traced.left_out == encoded.left_out
    ours, theirs = Counter(signatures(traced).values()), Counter(signatures(encoded).values())
    assert not ours - theirs, "groups of the traced graph alone"
    assert not theirs - ours, "groups of the encoder's graph alone"
    assert structure(traced) == structure(encoded)
    assert reads(traced) == reads(encoded)


def reads(graph: NeuralGraph) -> Counter[Signature]:
    """Which number of its parameter each edge of a block carries."""
    found: Counter[Signature] = Counter()
    for block in graph.edges:
        if block.view is not None:
            numbers = block.view(
                torch.arange(graph.parameters[block.parameter].numel()).view(graph.parameters[block.parameter])
            )
            found[block.parameter, block.kind.name, tuple(numbers.shape), tuple(numbers.flatten().tolist())] += 1
    return found


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, (4, 3), groups=8),
        nn.Conv2d(8, 12, 1, groups=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 6),
        nn.GELU(),
        nn.Linear(6, 5),
    )


CHAINS = {
    "perceptron": (
        "mlp",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)),
        lambda: torch.randn(3, 4),
    ),
    "one layer": ("mlp", lambda: nn.Linear(4, 3), lambda: torch.randn(2, 4)),
    "batch norm": (
        "mlp",
        lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
        lambda: torch.randn(3, 4),
    ),
    "convolutions": ("cnn", convolutions, lambda: torch.randn(2, 3, 8, 8)),
    "wide kernels": (
        "cnn",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)),
        lambda: torch.randn(2, 3, 6, 6),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name):
    family, make, inputs = CHAINS[name]
    model = make().eval()
    assert_same(trace(model, inputs()), ninokit.encode(model, architecture=family))


TRANSFORMERS = {
    "GPT-2": ("GPT2", "LMHeadModel", text, {}),
    "GPT-2 with a classifier": ("GPT2", "ForSequenceClassification", one_text, {}),
    "ViT": ("ViT", "ForImageClassification", images, {}),
    "Llama": ("Llama", "ForCausalLM", text, {}),
    "Llama with biases": ("Llama", "ForCausalLM", text, {"attention_bias": True, "mlp_bias": True}),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    family, kind, inputs, settings = TRANSFORMERS[name]
    model = huggingface(family, kind, **settings).eval()
    assert_same(trace(model, inputs()), ninokit.encode(model, architecture="transformers"))


def bert(kind: str, inputs: Any) -> tuple[NeuralGraph, NeuralGraph]:
    """Traced, and the encoder's, but for one difference.

    To the encoder the table of two token types is a bias, traced it is one of positions: the network is not told the
    types here, so it looks them up as it does the positions.
    """
    model = huggingface("Bert", kind).eval()
    traced, encoded = trace(model, inputs), ninokit.encode(model, architecture="transformers")
    name = "bert.embeddings.token_type_embeddings.weight"
    kinds = [[block.kind for block in graph.blocks[name]] for graph in (traced, encoded)]
    assert kinds == [[EdgeKind.POSITION_EMBEDDING], [EdgeKind.BIAS]]
    return with_kind(traced, name, EdgeKind.BIAS), encoded


def test_bert():
    assert_same(*bert("ForSequenceClassification", one_text()))


def test_bert_with_a_tied_output():
    """To the encoder the rows of the table are the outputs; traced these are a group beside them, with the bias."""
    traced, encoded = bert("ForMaskedLM", text())
    assert reads(traced) == reads(encoded)
    bias, table = "cls.predictions.bias", "bert.embeddings.word_embeddings.weight"
    ends = [(graph.blocks[bias][0].dst, graph.blocks[table][0].src) for graph in (traced, encoded)]
    assert [one is other for one, other in ends] == [False, True]
    assert {(group.size, group.rigid) for pair in ends for group in pair} == {(11, 11)}
    assert Counter(signatures(traced).values()) - Counter(signatures(encoded).values()) == Counter(
        signatures(traced)[group.name] for group in ends[0]
    )


def with_kind(graph: NeuralGraph, parameter: str, kind: EdgeKind) -> NeuralGraph:
    edges = tuple(replace(block, kind=kind) if block.parameter == parameter else block for block in graph.edges)
    return NeuralGraph(graph.neurons, edges, graph.parameters, roles=graph.roles, left_out=graph.left_out)


def test_the_comparison_sees_differences():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), torch.randn(2, 4)
    graph = trace(model, x)
    assert_same(graph, trace(nn.Sequential(model[0], nn.Softmax(1), model[2]), x))
    with pytest.raises(AssertionError):
        assert_same(graph, with_kind(graph, "2.weight", EdgeKind.CONVOLUTION))

    class Other(nn.Sequential):
        def forward(self, x):
            return self[2](self[0](x) + x)

    class Turned(nn.Sequential):
        def forward(self, x):
            return self[2](self[0](x).flip(-1).cumsum(-1))

    for other in (Other, Turned):
        with pytest.raises(AssertionError):
            assert_same(graph, trace(other(*model), x))
