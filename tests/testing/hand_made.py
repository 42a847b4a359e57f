"""Small networks, and their neural graphs written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ninokit.graph import EdgeKind, Edges, GraphBuilder, NeuralGraph, Neurons


def layer(
    builder: GraphBuilder, name: str, src: Neurons, dst: Neurons, *, bias: bool = True, axes: str = "dst src"
) -> None:
    builder.edges(EdgeKind.LINEAR, src, dst, parameter=f"{name}.weight", axes=axes)
    if bias:
        builder.vector(EdgeKind.BIAS, dst, parameter=f"{name}.bias")


def norm(builder: GraphBuilder, name: str, dst: Neurons) -> None:
    builder.vector(EdgeKind.NORM_SCALE, dst, parameter=f"{name}.weight")
    builder.vector(EdgeKind.BIAS, dst, parameter=f"{name}.bias")


# A chain of linear layers.


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(widths)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.Tanh())][:-1])


def mlp_graph(model: nn.Sequential) -> NeuralGraph:
    """Groups ``g0`` (inputs), ``g1``, …"""
    builder = GraphBuilder(model)
    linear = [(name, module) for name, module in model.named_children() if isinstance(module, nn.Linear)]
    current = builder.neurons("g0", linear[0][1].in_features)
    for place, (name, module) in enumerate(linear, 1):
        before, current = current, builder.neurons(f"g{place}", module.out_features)
        layer(builder, name, before, current, bias=module.bias is not None)
    return builder.build()


# A residual stream with a two-layer branch a block, each behind a norm.


class ResidualMLP(nn.Module):
    def __init__(self, inputs: int, width: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in hidden)
        self.up = nn.ModuleList(nn.Linear(width, size) for size in hidden)
        self.down = nn.ModuleList(nn.Linear(size, width) for size in hidden)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for before, up, down in zip(self.norms, self.up, self.down, strict=True):
            x = x + down(torch.tanh(up(before(x))))
        return self.head(x)


def residual_graph(model: ResidualMLP) -> NeuralGraph:
    """Groups ``in``, ``s0`` (the stream), ``h0``, ``s1``, ``h1``, …, ``out``."""
    builder = GraphBuilder(model)
    stream = builder.neurons("s0", model.embed.out_features)
    layer(builder, "embed", builder.neurons("in", model.embed.in_features), stream)
    for i, up in enumerate(model.up):
        hidden = builder.neurons(f"h{i}", up.out_features)
        after = builder.neurons(f"s{i + 1}", stream.size)
        norm(builder, f"norms.{i}", stream)
        layer(builder, f"up.{i}", stream, hidden)
        layer(builder, f"down.{i}", hidden, after)
        builder.edges(EdgeKind.RESIDUAL, stream, after, groups=stream.size)
        stream = after
    layer(builder, "head", stream, builder.neurons("out", model.head.out_features))
    return builder.build()


# Convolutions of all patterns.


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4, bias=False)
        self.plain_norm = nn.BatchNorm2d(12, affine=False)
        self.depthwise = nn.Conv2d(12, 12, 3, groups=12)
        self.norm_after = nn.BatchNorm2d(12)
        self.head = nn.Linear(12 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain_norm(self.grouped(functional.relu(self.norm(self.stem(x)))))
        x = functional.relu(self.norm_after(self.depthwise(functional.relu(x))))
        return self.head(x.flatten(1))


def conv_graph(model: ConvNet, head_axes: str = "dst (src tap)") -> NeuralGraph:
    builder = GraphBuilder(model)
    image, first, second, third, out = (
        builder.neurons(name, size)
        for name, size in [("image", 3), ("first", 8), ("second", 12), ("third", 12), ("out", 5)]
    )
    kind, axes = EdgeKind.CONVOLUTION, "(group dst) src tap tap"
    builder.edges(kind, image, first, parameter="stem.weight", axes="dst src tap tap")
    norm(builder, "norm", first)
    builder.edges(kind, first, second, parameter="grouped.weight", axes=axes, groups=4)
    builder.edges(kind, second, third, parameter="depthwise.weight", axes=axes, groups=12)
    builder.vector(EdgeKind.BIAS, third, parameter="depthwise.bias")
    norm(builder, "norm_after", third)
    layer(builder, "head", third, out, axes=head_axes)
    return builder.build()


# A transformer of one layer. Its inner width equals the stream's, so that wrong wiring fits every shape.


def rotate(x: Tensor) -> Tensor:
    """Rotary positions: each pair of neurons of a head, (j, j + half), turns at a speed of its own."""
    steps, half = x.shape[-2], x.shape[-1] // 2
    angles = torch.arange(steps).to(x)[:, None] * 3.0 ** -torch.arange(half).to(x)
    first, second = x[..., :half], x[..., half:]
    turned = (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin())
    return torch.cat(turned, -1)


class Transformer(nn.Module):
    tokens, width, hidden, positions = 11, 12, 10, 6

    def __init__(self, heads: int = 3, *, tied: bool = False, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.embed = nn.Embedding(self.tokens, self.width)
        self.place = nn.Parameter(torch.zeros(self.positions, self.width))
        self.norm1 = nn.LayerNorm(self.width)
        self.q, self.k, self.v, self.o = (nn.Linear(self.width, self.width, bias=b) for b in (True, False, True, True))
        self.norm2 = nn.LayerNorm(self.width)
        self.up, self.down = nn.Linear(self.width, self.hidden), nn.Linear(self.hidden, self.width)
        self.head = nn.Linear(self.width, self.tokens, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place[: tokens.shape[1]]
        x = x + self.attend(self.norm1(x))
        x = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return self.head(x)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def transformer_graph(model: Transformer, *, rigid: int = 1) -> NeuralGraph:
    """Groups ``vocabulary``, ``places``, ``s0`` to ``s2`` (the stream), ``heads``, ``query``, ``value``, ``hidden``."""
    builder = GraphBuilder(model)
    width = model.width
    vocabulary = builder.neurons("vocabulary", model.tokens)
    places = builder.neurons("places", model.positions)
    s0, s1, s2 = (builder.neurons(f"s{i}", width) for i in range(3))
    query, value = builder.neurons("query", width, rigid), builder.neurons("value", width)
    heads, hidden = builder.neurons("heads", model.heads), builder.neurons("hidden", model.hidden)
    builder.edges(EdgeKind.TOKEN_EMBEDDING, vocabulary, s0, parameter="embed.weight", axes="src dst")
    builder.edges(EdgeKind.POSITION_EMBEDDING, places, s0, parameter="place", axes="src dst")
    norm(builder, "norm1", s0)
    builder.edges(EdgeKind.QUERY, s0, query, parameter="q.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, query, parameter="q.bias")
    builder.edges(EdgeKind.KEY, query, s0, parameter="k.weight", axes="src dst")
    builder.edges(EdgeKind.VALUE, s0, value, parameter="v.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, value, parameter="v.bias")
    builder.edges(EdgeKind.ATTENTION_HEAD, heads, query, groups=model.heads)
    builder.edges(EdgeKind.ATTENTION_HEAD, heads, value, groups=model.heads)
    layer(builder, "o", value, s1)
    builder.edges(EdgeKind.RESIDUAL, s0, s1, groups=width)
    norm(builder, "norm2", s1)
    layer(builder, "up", s1, hidden)
    layer(builder, "down", hidden, s2)
    builder.edges(EdgeKind.RESIDUAL, s1, s2, groups=width)
    if model.head.weight is not model.embed.weight:
        layer(builder, "head", s2, builder.neurons("logits", model.tokens), bias=False)
    return builder.build()


def some_tokens(model: Transformer) -> Tensor:
    return torch.randint(model.tokens, (3, model.positions - 1), generator=torch.Generator().manual_seed(0))


# Graphs made wrong.


def edited(
    graph: NeuralGraph, edit: Callable[[Edges], Edges | None], neurons: Sequence[Neurons] | None = None
) -> NeuralGraph:
    """The graph with every block as an edit leaves it; None leaves it out."""
    edges = tuple(new for block in graph.edges if (new := edit(block)) is not None)
    return NeuralGraph(tuple(neurons or graph.neurons), edges, graph.parameters)


def rewired(graph: NeuralGraph, ends: dict[str, tuple[str, str]]) -> NeuralGraph:
    """The graph with an end of some parameters' blocks elsewhere: parameter → (``src`` or ``dst``, group)."""
    groups = {group.name: group for group in graph.neurons}

    def edit(block: Edges) -> Edges:
        if block.parameter not in ends:
            return block
        end, group = ends[block.parameter]
        return replace(block, **{end: groups[group]})

    return edited(graph, edit)


def exchanged(graph: NeuralGraph, *pairs: tuple[str, str]) -> NeuralGraph:
    """The graph with parameters in each other's place."""
    names = {old: new for pair in pairs for old, new in (pair, pair[::-1])}
    return edited(graph, lambda block: replace(block, parameter=names.get(block.parameter, block.parameter)))


def transposed(graph: NeuralGraph, parameter: str) -> NeuralGraph:
    """The graph with the axes of a square matrix taken for each other."""
    swap = {"dst": "src", "src": "dst"}

    def edit(block: Edges) -> Edges:
        if block.parameter != parameter:
            return block
        digits = [tuple(d._replace(label=swap[d.label]) for d in axis.digits) for axis in block.view.axes]
        axes = tuple(replace(axis, digits=new) for axis, new in zip(block.view.axes, digits, strict=True))
        return replace(block, view=replace(block.view, axes=axes))

    return edited(graph, edit)
