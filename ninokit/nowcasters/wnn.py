"""WNN+: a small network that looks at one weight at a time, without the graph around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ninokit.graph.kinds import NUM_KINDS
from ninokit.graph.structure import Edges, NeuralGraph
from ninokit.nowcasters.base import History, Nowcaster, check_forecast, forecast_dtype
from ninokit.nowcasters.scaling import Scale

__all__ = ["Wnn"]

_TILE = 2**14  # weights at a time, so that the hidden features stay small


class Wnn(nn.Module, Nowcaster):
    """The weight nowcaster network with edge kinds.

    From the graph it reads the kind of each parameter's edges alone. Source: WNN of Jang et al. 2023, in the form
    WNN+ of Knyazev et al. 2025.

    Args:
        hidden: width of the network.
        context: number of past states.
        max_horizon: how far it can look ahead; all horizons are predicted directly.
    """

    needs_weights = True

    def __init__(self, hidden: int = 128, context: int = 5, max_horizon: int = 40) -> None:
        super().__init__()
        self.context = context
        self.max_horizon = max_horizon
        self.kind_embedding = nn.Embedding(NUM_KINDS, hidden)
        self.weight_embedding = nn.Linear(context, hidden)
        self.readout = nn.Sequential(
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, max_horizon),
        )

    def forward(self, states: Tensor, kind: Tensor) -> Tensor:
        """Predict the changes of weights at all horizons.

        Args:
            states: scaled states, shape (weights, context), oldest first.
            kind: the kind of the weights' edges, broadcastable to shape (weights,), int64.

        Returns:
            Scaled differences from the last state, shape (weights, max_horizon).
        """
        return self.readout(self.weight_embedding(states) + self.kind_embedding(kind))

    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `Nowcaster.forecast`."""
        check_forecast(self, graph, history, horizon)
        assert graph is not None  # check_forecast has seen to it
        for name in graph.parameters:
            with torch.no_grad():
                prediction = self._forecast_parameter(graph.blocks[name], history[name], horizon)
            yield name, prediction

    def _forecast_parameter(self, blocks: Sequence[Edges], states: Tensor, horizon: int) -> Tensor:
        local = states.to(self.weight_embedding.weight)
        scale = Scale.of(local, local)
        prediction = torch.empty_like(local[-1])
        for block in blocks:
            if block.view is not None:  # never None beside a parameter
                scaled = scale.apply(block.view(local)).flatten(1).T  # (weights, context)
                kind = torch.tensor([int(block.kind)], device=local.device)
                change = torch.cat([self(part, kind)[:, horizon - 1] for part in scaled.split(_TILE)])
                block.view(prediction).copy_((scaled[:, -1] + change).view(block.view.shape))
        return scale.undo(prediction).to(forecast_dtype(states))
