"""The forms in which a nowcaster's function is computed in meta-training: all differentiable, all for stacks.

A form takes the nowcaster, the graph, the positions of each network's nodes, of shape (stack, nodes, 8), and the
scaled past states, name → (stack, context, shape…). It returns, for each block of the graph that carries a parameter,
the scaled changes at all horizons, of shape (stack, group, dst, src, tap, max_horizon).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ninokit._dgl import import_dgl
from ninokit.graph.edge_values import carried
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.stacked import stacked_changes
from ninokit.nowcasters.wnn import Wnn

__all__ = ["FORMS", "Form", "message_passing_changes", "weightwise_changes"]

Form = Callable[[Any, NeuralGraph, Tensor, Mapping[str, Tensor]], list[Tensor]]


def message_passing_changes(
    nino: Nino, graph: NeuralGraph, positions: Tensor, states: Mapping[str, Tensor]
) -> list[Tensor]:
    """`Nino.forward` on a DGL batch of neural graphs, on the CPU: a feature vector an edge, the form to read.

    Args:
        nino: whose weights count.
        graph: of the networks' architecture.
        positions: shape (stack, nodes, 8).
        states: name → scaled past states, shape (stack, context, shape…).

    Returns:
        The changes, block by block.

    Raises:
        DependencyError: if DGL is not installed.
    """
    stack = len(positions)
    views = [graph.to_dgl({name: past[number] for name, past in states.items()}) for number in range(stack)]
    batch = import_dgl().batch(views)
    batch.ndata["position"] = positions.flatten(0, 1)
    changes = nino(batch).unflatten(0, (stack, -1))
    parts = changes.split([*(block.num_edges for block in graph.edges), graph.num_nodes], dim=1)
    return [
        part[:, :, : block.num_taps].unflatten(1, block.shape)
        for block, part in zip(graph.edges, parts, strict=False)  # the self-loops' come last
        if block.parameter is not None
    ]


def weightwise_changes(wnn: Wnn, graph: NeuralGraph, positions: Tensor, states: Mapping[str, Tensor]) -> list[Tensor]:
    """`Wnn.forward` on all weights at once.

    Args:
        wnn: whose weights count.
        graph: of the networks' architecture.
        positions: not read.
        states: name → scaled past states, shape (stack, context, shape…).

    Returns:
        The changes, block by block.
    """
    rows = [view(states[name]).movedim(1, -1) for _, name, view in carried(graph)]
    kinds = [int(block.kind) for block, _, _ in carried(graph)]
    counts = [part.shape[:-1].numel() for part in rows]
    of_row = torch.tensor(kinds).repeat_interleave(torch.tensor(counts)).to(positions.device)
    changes = wnn(torch.cat([part.flatten(0, -2) for part in rows]), of_row).split(counts)
    return [part.view(*row.shape[:-1], -1) for part, row in zip(changes, rows, strict=True)]


# Family → name of the form → the form; the first is the usual one.
FORMS: Mapping[str, Mapping[str, Form]] = {
    "nino": {"blocks": stacked_changes, "dgl": message_passing_changes},
    "wnn": {"blocks": weightwise_changes},
}
