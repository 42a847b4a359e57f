"""Parameters → numbers on edges, and back.

Shape legend: edges = all edges of the graph in its order, then one self-loop a node; taps = numbers an edge, padded
with zeros; context = states of the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

import torch
from torch import Tensor

from ninokit.errors import GraphError
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph
from ninokit.graph.views import View

__all__ = ["carried", "edge_endpoints", "edge_kinds", "edges_to_parameters", "parameters_to_edges"]


def carried(graph: NeuralGraph) -> Iterator[tuple[Edges, str, View]]:
    """The blocks that carry a parameter.

    Args:
        graph: any neural graph.

    Yields:
        A block, the parameter's name, and how it is read, in the graph's order.
    """
    for block in graph.edges:
        if block.parameter is not None and block.view is not None:
            yield block, block.parameter, block.view


def edge_endpoints(graph: NeuralGraph) -> tuple[Tensor, Tensor]:
    """The source and destination node of every edge, self-loops last.

    Args:
        graph: any neural graph.

    Returns:
        Two int64 tensors of shape (edges,).
    """
    nodes = torch.arange(graph.num_nodes)
    pairs = [*(_block_endpoints(graph, block) for block in graph.edges), (nodes, nodes)]
    return torch.cat([src for src, _ in pairs]), torch.cat([dst for _, dst in pairs])


def edge_kinds(graph: NeuralGraph) -> Tensor:
    """The kind of every edge, self-loops last.

    Args:
        graph: any neural graph.

    Returns:
        An int64 tensor of shape (edges,).
    """
    kinds = torch.tensor([*(int(block.kind) for block in graph.edges), int(EdgeKind.SELF_LOOP)])
    return kinds.repeat_interleave(torch.tensor([*(block.num_edges for block in graph.edges), graph.num_nodes]))


def parameters_to_edges(graph: NeuralGraph, states: Mapping[str, Tensor], *, taps: int | None = None) -> Tensor:
    """The states of the parameters as numbers on the edges.

    Args:
        graph: any neural graph.
        states: name → tensor of shape (context, parameter's shape…), all of one context and dtype.
        taps: width to pad to, at least ``graph.max_taps``, which it is if left out.

    Returns:
        Tensor of shape (edges, taps, context). A structural edge has its kind's constant in the first tap, at every
        state.

    Raises:
        GraphError: if a parameter is missing or has another shape, or if `taps` is too small.
    """
    taps = graph.max_taps if taps is None else taps
    if taps < graph.max_taps:
        raise GraphError(f"taps: expected at least {graph.max_taps}, which the widest edge needs, got {taps}")
    context = _check_states(graph, states)
    like = states[next(iter(graph.parameters))]  # the states may hold buffers of other dtypes besides
    values = like.new_zeros(graph.num_edges + graph.num_nodes, taps, context)
    start = 0
    for block in graph.edges:
        part = values[start : (start := start + block.num_edges)]
        if block.parameter is None or block.view is None:
            part[:, 0] = block.kind.constant
        else:  # (context, group, dst, src, tap) → (edges, tap, context)
            read = block.view(states[block.parameter]).flatten(1, 3)
            part[:, : block.num_taps] = read.permute(1, 2, 0)
    values[start:, 0] = EdgeKind.SELF_LOOP.constant
    return values


def edges_to_parameters(graph: NeuralGraph, values: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The numbers on the edges as parameters again, one by one in the network's order.

    Args:
        graph: any neural graph.
        values: shape (edges, taps), as from `parameters_to_edges` at one state.

    Yields:
        Name and tensor of the parameter's shape.
    """
    starts = dict(zip(map(id, graph.edges), accumulate((b.num_edges for b in graph.edges), initial=0), strict=False))
    for name, shape in graph.parameters.items():
        parameter = values.new_empty(shape)
        for block in graph.blocks[name]:
            if block.view is not None:  # never None beside a parameter
                start = starts[id(block)]
                part = values[start : start + block.num_edges, : block.num_taps]
                block.view(parameter).copy_(part.reshape(block.view.shape))
        yield name, parameter


def _block_endpoints(graph: NeuralGraph, block: Edges) -> tuple[Tensor, Tensor]:
    """Edges of a block run over its slices, in a slice over destinations, for each over its sources."""
    _, dst, src = block.shape
    sources = torch.arange(block.src.size) + graph.offsets[block.src.name]
    destinations = torch.arange(block.dst.size) + graph.offsets[block.dst.name]
    return (  # -1: as many slices as the end is cut into, 1 if it is shared
        sources.view(-1, 1, src).expand(block.shape).flatten(),
        destinations.view(-1, dst, 1).expand(block.shape).flatten(),
    )


def _check_states(graph: NeuralGraph, states: Mapping[str, Tensor]) -> int:
    missing = [name for name in graph.parameters if name not in states]
    if missing:
        raise GraphError(f"states: the parameter {missing[0]!r} is missing ({len(missing)} in all)")
    contexts = set()
    for name, shape in graph.parameters.items():
        contexts.add(states[name].shape[0] if states[name].ndim else 0)
        if states[name].shape[1:] != shape:
            raise GraphError(
                f"states of {name}: expected shape (context, {', '.join(map(str, shape))}), "
                f"got {tuple(states[name].shape)}"
            )
    if len(contexts) != 1:
        raise GraphError(f"states: all parameters need one number of context states, got {sorted(contexts)}")
    return contexts.pop()
