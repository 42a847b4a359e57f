"""The networks that the streaming benchmark forecasts: their shapes alone, without memory for their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import ninokit
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph


def small_cnn() -> NeuralGraph:
    convolutions = [nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 3)]
    return ninokit.encode(nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)))


def mlp(*widths: int) -> NeuralGraph:
    with torch.device("meta"):
        return ninokit.encode(nn.Sequential(*map(nn.Linear, widths[:-1], widths[1:])))


def resnet50_sized_chain() -> NeuralGraph:
    """The 1×1 and 3×3 convolutions of a ResNet-50, one after another, without its shortcuts."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7)]
    with torch.device("meta"):
        for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for _ in range(blocks):
                inputs = layers[-1].out_channels
                layers += [nn.Conv2d(inputs, width, 1), nn.Conv2d(width, width, 3), nn.Conv2d(width, 4 * width, 1)]
        return ninokit.encode(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)))


def gpt2(width: int, layers: int, vocabulary: int = 50_257, context: int = 1024) -> NeuralGraph:
    """The shapes of GPT-2, with its real vocabulary; heads of 64."""
    shapes = {"wte": (vocabulary, width), "wpe": (context, width)}
    for layer in range(layers):
        shapes |= {f"{layer}.{name}": (width,) for name in ("ln1.w", "ln1.b", "ln2.w", "ln2.b", "proj.b", "down.b")}
        shapes |= {f"{layer}.qkv.w": (width, 3 * width), f"{layer}.qkv.b": (3 * width,)}
        shapes |= {f"{layer}.proj.w": (width, width), f"{layer}.up.w": (width, 4 * width)}
        shapes |= {f"{layer}.up.b": (4 * width,), f"{layer}.down.w": (4 * width, width)}
    builder = GraphBuilder(_holding(shapes))
    stream = builder.neurons("stream", width)
    for name, size, kind in (
        ("wte", vocabulary, EdgeKind.TOKEN_EMBEDDING),
        ("wpe", context, EdgeKind.POSITION_EMBEDDING),
    ):
        builder.edges(kind, builder.neurons(f"{name}.rows", size), stream, parameter=name, axes="src dst")
    for layer in range(layers):
        stream = _add_transformer_layer(builder, f"{layer}", stream, width)
    return builder.build()


def _add_transformer_layer(builder: GraphBuilder, name: str, stream: Any, width: int) -> Any:
    heads = builder.neurons(f"{name}.heads", width // 64)
    parts = {part: builder.neurons(f"{name}.{part}", width) for part in ("query", "value", "attended", "out")}
    inner = builder.neurons(f"{name}.inner", 4 * width)
    builder.vector(EdgeKind.NORM_SCALE, stream, parameter=f"{name}.ln1.w")
    builder.vector(EdgeKind.BIAS, stream, parameter=f"{name}.ln1.b")
    ends = ((stream, parts["query"]), (parts["query"], stream), (stream, parts["value"]))
    for index, (kind, (src, dst)) in enumerate(zip((EdgeKind.QUERY, EdgeKind.KEY, EdgeKind.VALUE), ends, strict=True)):
        window = (index * width, (index + 1) * width)
        axes = "dst src" if kind is EdgeKind.KEY else "src dst"
        builder.edges(kind, src, dst, parameter=f"{name}.qkv.w", axes=axes, window={1: window})
        acted_on = parts["value"] if kind is EdgeKind.VALUE else parts["query"]
        node = builder.neurons(f"{name}.qkv.b.{kind.name}", 1)
        builder.edges(EdgeKind.BIAS, node, acted_on, parameter=f"{name}.qkv.b", axes="dst", window={0: window})
    for part in ("query", "value"):
        builder.edges(EdgeKind.ATTENTION_HEAD, heads, parts[part], groups=heads.size)
    builder.edges(EdgeKind.LINEAR, parts["value"], parts["attended"], parameter=f"{name}.proj.w", axes="src dst")
    builder.vector(EdgeKind.BIAS, parts["attended"], parameter=f"{name}.proj.b")
    builder.edges(EdgeKind.RESIDUAL, stream, parts["attended"], groups=width)
    builder.vector(EdgeKind.NORM_SCALE, parts["attended"], parameter=f"{name}.ln2.w")
    builder.vector(EdgeKind.BIAS, parts["attended"], parameter=f"{name}.ln2.b")
    builder.edges(EdgeKind.LINEAR, parts["attended"], inner, parameter=f"{name}.up.w", axes="src dst")
    builder.vector(EdgeKind.BIAS, inner, parameter=f"{name}.up.b")
    builder.edges(EdgeKind.LINEAR, inner, parts["out"], parameter=f"{name}.down.w", axes="src dst")
    builder.vector(EdgeKind.BIAS, parts["out"], parameter=f"{name}.down.b")
    builder.edges(EdgeKind.RESIDUAL, parts["attended"], parts["out"], groups=width)
    return parts["out"]


def llama(
    width: int, layers: int, inner: int, vocabulary: int = 128_256, query_heads: int = 32, heads: int = 8
) -> NeuralGraph:
    """The shapes of Llama 3.2, with its real vocabulary: grouped queries, gated layers, one table for both ends."""
    kept = width // query_heads * heads  # neurons of keys, and of values
    shapes: dict[str, tuple[int, ...]] = {"table": (vocabulary, width), "norm": (width,)}
    for layer in range(layers):
        shapes |= {f"{layer}.{name}": (width,) for name in ("norm1", "norm2")}
        shapes |= {f"{layer}.{name}": (width, width) for name in ("query", "out")}
        shapes |= {f"{layer}.{name}": (kept, width) for name in ("key", "value")}
        shapes |= {f"{layer}.{name}": (inner, width) for name in ("gate", "up")}
        shapes |= {f"{layer}.down": (width, inner)}
    builder = GraphBuilder(_holding(shapes))
    stream, tokens = builder.neurons("stream", width), builder.neurons("tokens", vocabulary)
    builder.edges(EdgeKind.TOKEN_EMBEDDING, tokens, stream, parameter="table", axes="src dst")
    for layer in range(layers):
        stream = _add_gated_layer(builder, f"{layer}", stream, (width, inner, query_heads, heads))
    builder.vector(EdgeKind.NORM_SCALE, stream, parameter="norm")
    return builder.build()


def _add_gated_layer(builder: GraphBuilder, name: str, stream: Any, sizes: tuple[int, int, int, int]) -> Any:
    width, inner, query_heads, heads = sizes
    kept, linear = width // query_heads * heads, EdgeKind.LINEAR
    query, key, value = (builder.neurons(f"{name}.{n}", s) for n, s in (("q", width), ("k", kept), ("v", kept)))
    attended, hidden, out = (builder.neurons(f"{name}.{n}", s) for n, s in (("a", width), ("h", inner), ("o", width)))
    builder.vector(EdgeKind.NORM_SCALE, stream, parameter=f"{name}.norm1")
    builder.edges(EdgeKind.QUERY, stream, query, parameter=f"{name}.query", axes="dst src")
    builder.edges(EdgeKind.KEY, key, stream, parameter=f"{name}.key", axes="src dst")
    builder.edges(EdgeKind.VALUE, stream, value, parameter=f"{name}.value", axes="dst src")
    grouped = {"groups": heads, "shared": "dst"}  # a value serves all queries of its group: they are the taps
    builder.edges(linear, value, attended, parameter=f"{name}.out", axes="dst (group tap src)", **grouped)
    builder.edges(EdgeKind.RESIDUAL, stream, attended, groups=width)
    builder.vector(EdgeKind.NORM_SCALE, attended, parameter=f"{name}.norm2")
    for part in ("gate", "up"):
        builder.edges(linear, attended, hidden, parameter=f"{name}.{part}", axes="dst src")
    builder.edges(linear, hidden, out, parameter=f"{name}.down", axes="dst src")
    builder.edges(EdgeKind.RESIDUAL, attended, out, groups=width)
    return out


def _holding(shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    """A module whose parameters have these names and shapes, and no memory."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta")))
    return root
