"""A few weights of each slice: enough for a nowcaster that looks at one weight at a time.

The weights of a network have much in common, those of many networks and times less: for the same work a step learns
more from few weights of many slices than from all weights of a few.

Shape legend: stack = slices of networks of one architecture; W = weights drawn; rows = each number on each edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ninokit.graph.edge_values import carried
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.scaling import Scale
from ninokit.nowcasters.wnn import Wnn
from ninokit.pretraining.slices import Slices

__all__ = ["sampled_errors"]


def sampled_errors(wnn: Wnn, slices: Slices, weights: int, generator: np.random.Generator) -> Tensor:
    """The L1 distance of predictions, averaged over weights drawn at random.

    On average this is the distance on all weights, where all parameters move.

    Args:
        wnn: what predicts; differentiable.
        slices: as drawn, on the nowcaster's device.
        weights: how many of each slice, the same in the whole stack, at least 1; all of them if there are fewer.
        generator: what the draw depends on.

    Returns:
        Shape (stack, horizon), also where the true state is not known.
    """
    numbers, kinds = _draw(slices.graph, weights, generator)
    scaled, counts = _scaled(slices, numbers, wnn.context)
    past, future = scaled[:, : wnn.context], scaled[:, wnn.context :]
    changes = wnn(past.transpose(1, 2), kinds.to(past.device))  # shape: (stack, W, horizon)
    errors = (changes - (future - past[:, -1:]).transpose(1, 2)).abs() * counts[..., None]
    return errors.sum(1) / counts.sum(1, keepdim=True).clamp(min=1)


def _draw(graph: NeuralGraph, weights: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Places among a network's flattened parameters, ascending, and the kinds of their edges, each of shape (W,)."""
    numbers, kinds = _rows(graph)
    rows = torch.from_numpy(generator.choice(len(numbers), min(weights, len(numbers)), replace=False))
    rows = rows[numbers[rows].argsort()]
    return numbers[rows], kinds[rows]


def _rows(graph: NeuralGraph) -> tuple[Tensor, Tensor]:
    """All rows' places among the flattened parameters, and their kinds, each of shape (rows,)."""
    places = {
        name: torch.arange(first, last).view(1, *graph.parameters[name]) for name, first, last in _flattened(graph)
    }
    parts = [(view(places[name]).flatten(), int(block.kind)) for block, name, view in carried(graph)]
    return torch.cat([part for part, _ in parts]), torch.cat([torch.full_like(part, kind) for part, kind in parts])


def _flattened(graph: NeuralGraph) -> Iterator[tuple[str, int, int]]:
    """Each parameter with its first place among the flattened parameters and the next one's."""
    first = 0
    for name, shape in graph.parameters.items():
        yield name, first, first + math.prod(shape)
        first += math.prod(shape)


def _scaled(slices: Slices, numbers: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Scaled states, shape (stack, context + horizon, W), and which of them count: 1 or 0, shape (stack, W)."""
    scaled, counts = [], []
    for name, first, last in _flattened(slices.graph):
        chosen = numbers[(numbers >= first) & (numbers < last)] - first
        if not len(chosen):
            continue
        states = slices.states[name].flatten(2)
        scale = Scale.each(states[:, :context])
        scaled.append(scale.apply(states[..., chosen.to(states.device)]))
        counts.append(scale.moves.flatten(1).to(states).expand(-1, len(chosen)))
    return torch.cat(scaled, dim=2), torch.cat(counts, dim=1)
