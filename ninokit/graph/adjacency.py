"""The adjacency of a small neural graph as an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from ninokit.graph.colours import COLOURS
from ninokit.graph.edge_values import edge_endpoints, edge_kinds
from ninokit.graph.kinds import NUM_KINDS
from ninokit.graph.structure import NeuralGraph

__all__ = ["draw_adjacency"]

_LABEL_WIDTH = 24
_LABEL_SHARE = 0.03  # of the nodes: groups with less have no room for a label


def draw_adjacency(axes: Any, graph: NeuralGraph, prefix: str = "") -> None:
    """Draw which neuron leads to which, a pixel a pair, in the colours of the kinds.

    Self-loops are left out. Where edges of several kinds join a pair, the last one in the graph's order is seen.

    Args:
        axes: `matplotlib.axes.Axes` to draw into: sources from the top, destinations from the left.
        graph: a graph of few neurons: the image has as many pixels as pairs of them.
        prefix: what to leave out where a group's name begins with it.
    """
    sources, destinations = (ends[: graph.num_edges].numpy() for ends in edge_endpoints(graph))
    kinds = np.zeros((graph.num_nodes, graph.num_nodes), dtype=np.int64)
    kinds[sources, destinations] = edge_kinds(graph)[: graph.num_edges].numpy()
    colours = np.full((NUM_KINDS, 3), 255, dtype=np.uint8)
    for kind, colour in COLOURS.items():
        if kind:
            colours[kind] = np.frombuffer(bytes.fromhex(colour[1:]), dtype=np.uint8)
    axes.imshow(colours[kinds], interpolation="nearest")
    for start in [*graph.offsets.values()][1:]:
        axes.axhline(start - 0.5, color="0.75", linewidth=0.4)
        axes.axvline(start - 0.5, color="0.75", linewidth=0.4)
    large = [group for group in graph.neurons if group.size >= _LABEL_SHARE * graph.num_nodes]
    ticks = [graph.offsets[group.name] + (group.size - 1) / 2 for group in large]
    axes.set_yticks(ticks, [_shorten(group.name.removeprefix(prefix)) for group in large], parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=2, color="0.5", labelsize=6.5)
    axes.set_title("adjacency: from neurons of a row to those of a column", fontsize=7.5)


def _shorten(name: str) -> str:
    while len(name) > _LABEL_WIDTH and "." in name:
        name = f"…{name.partition('.')[2]}"
    return name if len(name) <= _LABEL_WIDTH else f"…{name[1 - _LABEL_WIDTH :]}"
