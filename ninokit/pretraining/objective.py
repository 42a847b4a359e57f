"""What meta-training minimises: the L1 distance between predicted and true scaled states, over the whole horizon.

Shape legend: stack = slices of networks of one architecture; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ninokit.graph.edge_values import carried
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.linefit import LineFit
from ninokit.nowcasters.scaling import Scale
from ninokit.pretraining.slices import Slices

__all__ = ["ScaledSlices", "horizon_errors", "linefit_errors", "mean_error", "unchanged_errors"]


@dataclass(frozen=True, eq=False)
class ScaledSlices:
    """Slices in the scale of their context, as a forecast scales them.

    Args:
        graph: of the networks.
        context: name → scaled past states, shape (stack, context, shape…).
        changes: name → scaled future states less the last past one, shape (stack, horizon, shape…).
        weights: name → 1 for a parameter that counts, 0 for one that hardly moves in the context, whose prediction a
            forecast multiplies by next to nothing; shape (stack,).
        known: see `Slices`.
    """

    graph: NeuralGraph
    context: Mapping[str, Tensor]
    changes: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    known: Tensor

    @classmethod
    def of(cls, slices: Slices, context: int) -> ScaledSlices:
        """Scale slices.

        Args:
            slices: as drawn.
            context: how many of their states are past.

        Returns:
            What goes into a nowcaster, and what should come out.
        """
        past, changes, weights = {}, {}, {}
        for name in slices.graph.parameters:
            states = slices.states[name]
            scale = Scale.each(states[:, :context])
            scaled = scale.apply(states)
            past[name] = scaled[:, :context]
            changes[name] = scaled[:, context:] - past[name][:, -1:]
            weights[name] = scale.moves.flatten().to(states)
        return cls(slices.graph, past, changes, weights, slices.known)


def horizon_errors(changes: Iterable[Tensor], slices: ScaledSlices) -> Tensor:
    """The L1 distance of predictions, averaged over a network's parameters.

    Args:
        changes: for each block that carries a parameter the predicted changes, of shape
            (stack, group, dst, src, tap, horizon).
        slices: with the true ones.

    Returns:
        Shape (stack, horizon), also where the true state is not known.
    """
    total, count = slices.known.new_zeros(slices.known.shape, dtype=torch.float32), slices.known.new_zeros(1).float()
    for (block, name, view), predicted in zip(carried(slices.graph), changes, strict=True):
        true = view(slices.changes[name]).movedim(1, -1)
        weights = slices.weights[name][:, None]
        total = total + weights * (predicted - true).abs().flatten(1, -2).sum(1)
        count = count + weights * block.num_edges * block.num_taps
    return total / count.clamp(min=1)


def mean_error(errors: Tensor, known: Tensor) -> Tensor:
    """The mean over the known future states of each slice, then over slices.

    Args:
        errors: shape (stack, horizon).
        known: which of them count, shape (stack, horizon), at least one a slice.

    Returns:
        A scalar.
    """
    return ((errors * known).sum(1) / known.sum(1)).mean()


def unchanged_errors(slices: ScaledSlices) -> Tensor:
    """The errors of the forecast that nothing changes, shape (stack, horizon)."""
    nothing = torch.zeros((), device=slices.known.device)
    return horizon_errors((nothing for _ in carried(slices.graph)), slices)


def linefit_errors(slices: ScaledSlices) -> Tensor:
    """The errors of the nowcaster ``linefit``, shape (stack, horizon)."""
    horizon = slices.known.shape[1]
    # Past states first, then networks: linefit takes the stack for a part of a parameter's shape.
    history = {name: past.transpose(0, 1) for name, past in slices.context.items()}
    linefit = LineFit(context=len(next(iter(history.values()))), max_horizon=horizon)
    ahead = [dict(linefit.forecast(None, history, step)) for step in range(1, horizon + 1)]
    changes = {
        name: torch.stack([predicted[name] - states[-1] for predicted in ahead], dim=1)
        for name, states in history.items()
    }
    return horizon_errors((view(changes[name]).movedim(1, -1) for _, name, view in carried(slices.graph)), slices)
