"""Slow and obvious twins of the symbolic graph, with explicit loops over neurons; they use only sizes and slices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ninokit.graph import EdgeKind, Edges, NeuralGraph, Neurons


def structural(sizes: list[int], links: list[tuple]) -> NeuralGraph:
    """A graph without parameters: sizes, and (source, destination, slices[, shared end]) of the blocks."""
    groups = tuple(Neurons(f"g{i}", size) for i, size in enumerate(sizes))
    blocks = tuple(
        Edges(EdgeKind.RESIDUAL, groups[a], groups[b], slices, shared=shared[0] if shared else None)
        for a, b, slices, *shared in links
    )
    return NeuralGraph(groups, blocks, {})


def first_nodes(graph: NeuralGraph) -> dict[str, int]:
    starts, start = {}, 0
    for group in graph.neurons:
        starts[group.name] = start
        start += group.size
    return starts


def block_pairs(block: Edges) -> Iterator[tuple[int, int, int, int, int]]:
    """(slice, destination in the slice, source in the slice, destination, source) in the documented order."""
    all_dst, all_src = list(range(block.dst.size)), list(range(block.src.size))
    for part in range(block.groups):
        dst = all_dst if block.shared == "dst" else all_dst[part * len(all_dst) // block.groups :]
        src = all_src if block.shared == "src" else all_src[part * len(all_src) // block.groups :]
        for i in range(len(all_dst) if block.shared == "dst" else len(all_dst) // block.groups):
            for j in range(len(all_src) if block.shared == "src" else len(all_src) // block.groups):
                yield part, i, j, dst[i], src[j]


def adjacency(graph: NeuralGraph) -> np.ndarray:
    """Undirected and binary: parallel edges once, self-loops not at all."""
    starts = first_nodes(graph)
    matrix = np.zeros((graph.num_nodes, graph.num_nodes))
    for block in graph.edges:
        for _, _, _, dst, src in block_pairs(block):
            a, b = starts[block.src.name] + src, starts[block.dst.name] + dst
            if a != b:
                matrix[a, b] = matrix[b, a] = 1
    return matrix


def laplacian(matrix: np.ndarray) -> np.ndarray:
    """I - D^(-1/2) A D^(-1/2); a node without neighbours has a row of the identity."""
    degrees = matrix.sum(1)
    scale = np.array([degree**-0.5 if degree else 0.0 for degree in degrees])
    return np.eye(len(matrix)) - scale[:, None] * matrix * scale[None]


def sequential_edges(layers: nn.Sequential) -> set[tuple[str, int, str, int, tuple[float, ...]]]:
    """(source group, neuron, destination group, neuron, taps) of linear layers, convolutions and their biases.

    Norm scales and shifts are included; flattening is not.
    """
    found = set()
    before = "(input)"
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Linear):
            for i in range(layer.out_features):
                for j in range(layer.in_features):
                    found.add((before, j, name, i, (layer.weight[i, j].item(),)))
            before = name
        elif isinstance(layer, nn.modules.conv._ConvNd):
            outs, ins = layer.out_channels // layer.groups, layer.in_channels // layer.groups
            for part in range(layer.groups):
                for i in range(outs):
                    for j in range(ins):
                        at = (part * ins + j, i) if layer.transposed else (part * outs + i, j)
                        taps = tuple(layer.weight[at].flatten().tolist())
                        found |= set(_pieces(before, part * ins + j, name, part * outs + i, taps))
            before = name
        elif isinstance(getattr(layer, "weight", None), torch.Tensor):  # a norm
            found |= {(f"{name}.weight", 0, before, i, (w.item(),)) for i, w in enumerate(layer.weight)}
        if isinstance(getattr(layer, "bias", None), torch.Tensor):
            found |= {(f"{name}.bias", 0, before, i, (b.item(),)) for i, b in enumerate(layer.bias)}
    return found


def _pieces(
    src: str, j: int, dst: str, i: int, taps: tuple[float, ...]
) -> Iterator[tuple[str, int, str, int, tuple[float, ...]]]:
    while taps:
        yield src, j, dst, i, taps[:9]
        taps = taps[9:]
