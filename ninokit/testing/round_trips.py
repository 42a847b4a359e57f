"""The numbers on a graph's edges: back to the parameters, and along with permuted neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from ninokit.errors import EncodingError
from ninokit.graph.edge_values import edge_endpoints, edges_to_parameters, parameters_to_edges
from ninokit.graph.permutations import permute_parameter
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.symmetry import find_symmetry

__all__ = ["check_round_trip"]


def check_round_trip(graph: NeuralGraph, *, seed: int = 0) -> None:
    """Check that a graph loses and confuses no number; for small graphs, as all edges are listed.

    Every parameter gives its numbers to the edges and gets them back. When neurons move, the number between two of
    them stands afterwards on the edge between their new places, which exists.

    Args:
        graph: any neural graph.
        seed: of the permutation.

    Raises:
        EncodingError: naming the parameter.

    Example:
        >>> import torch, ninokit
        >>> from ninokit.testing import check_round_trip
        >>> check_round_trip(ninokit.encode(torch.nn.Linear(3, 2)))
    """
    states = _distinct_states(graph)
    values = parameters_to_edges(graph, states)
    for name, parameter in edges_to_parameters(graph, values[..., 0]):
        if not torch.equal(parameter, states[name][0]):
            raise EncodingError(f"{name}: its numbers come back from the edges in other places", [name])
    orders = find_symmetry(graph).draw(torch.Generator().manual_seed(seed))
    moved = {name: permute_parameter(graph.blocks[name], state[0], orders)[None] for name, state in states.items()}
    found = parameters_to_edges(graph, moved)
    for number, (edges, old_edges) in enumerate(_moved_edges(graph, orders)):
        block = graph.edges[number]
        if not torch.equal(found[edges], values[edges][old_edges]):
            raise EncodingError(f"{block.label}: its numbers do not move with the neurons of its edges", [block.label])


def _distinct_states(graph: NeuralGraph) -> dict[str, Tensor]:
    """Parameters of which all numbers differ, shape (1, parameter's shape…)."""
    states, start = {}, 1
    for name, shape in graph.parameters.items():
        states[name] = torch.arange(start, start + shape.numel(), dtype=torch.float64).view(1, *shape)
        start += shape.numel()
    return states


def _moved_edges(graph: NeuralGraph, orders: dict[str, Tensor]) -> list[tuple[slice, Tensor]]:
    """For each block its edges, and the one of them from whose place each comes."""
    ends = [orders.get(group.name, torch.arange(group.size)) + graph.offsets[group.name] for group in graph.neurons]
    old = torch.cat(ends)
    src, dst = edge_endpoints(graph)
    found, start = [], 0
    for block in graph.edges:
        edges = slice(start, start := start + block.num_edges)
        pairs = src[edges] * graph.num_nodes + dst[edges]
        old_pairs = old[src[edges]] * graph.num_nodes + old[dst[edges]]
        pairs, order = pairs.sort()
        places = torch.searchsorted(pairs, old_pairs).clamp(max=len(pairs) - 1)
        if not torch.equal(pairs[places], old_pairs):
            raise EncodingError(
                f"{block.label}: moved neurons are joined by edges that it does not have", [block.label]
            )
        found.append((edges, order[places]))
    return found
