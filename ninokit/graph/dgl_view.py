"""A neural graph as a `dgl.DGLGraph`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ninokit._dgl import import_dgl
from ninokit.graph.edge_values import edge_endpoints, edge_kinds, parameters_to_edges

if TYPE_CHECKING:
    import dgl

    from ninokit.graph.structure import NeuralGraph

__all__ = ["to_dgl"]


def to_dgl(graph: NeuralGraph, states: Mapping[str, Tensor] | None = None, *, taps: int | None = None) -> dgl.DGLGraph:
    """The graph with one DGL node a neuron and one DGL edge a weight, on the CPU.

    Args:
        graph: any neural graph.
        states: name → tensor of shape (context, parameter's shape…); the features of the edges. Left out, the graph
            has structure and positions alone.
        taps: width to pad the features to, so that graphs of other networks can be batched with it.

    Returns:
        A DGL graph. ``ndata["position"]``: (nodes, 8) float32, the positional encoding; ``ndata["group"]``: (nodes,)
        index into ``graph.neurons``; ``edata["kind"]``: (edges,) int64, an `EdgeKind`; ``edata["block"]``: (edges,)
        index into ``graph.edges``, -1 for a self-loop; ``edata["feature"]``: (edges, taps, context), if states were
        given. Edges stand in the graph's order, with a self-loop a node at the end.

    Raises:
        DependencyError: if DGL is not installed.
        GraphError: if the states do not fit the graph.

    Example:
        >>> import torch, ninokit
        >>> model = torch.nn.Linear(3, 2)
        >>> graph = ninokit.encode(model)
        >>> states = {name: p.detach().expand(5, *p.shape) for name, p in model.named_parameters()}
        >>> graph.to_dgl(states).edata["feature"].shape
        torch.Size([14, 1, 5])
    """
    view = import_dgl().graph(edge_endpoints(graph), num_nodes=graph.num_nodes)
    view.ndata["position"] = graph.positions
    view.ndata["group"] = _repeat_index([group.size for group in graph.neurons])
    view.edata["kind"] = edge_kinds(graph)
    blocks = _repeat_index([block.num_edges for block in graph.edges])
    view.edata["block"] = torch.cat([blocks, torch.full((graph.num_nodes,), -1)])
    if states is not None:
        on_cpu = {name: states[name].cpu() for name in graph.parameters if name in states}
        view.edata["feature"] = parameters_to_edges(graph, on_cpu, taps=taps)
    return view


def _repeat_index(counts: list[int]) -> Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
