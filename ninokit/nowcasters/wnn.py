"""WNN+: a small network that looks at one weight at a time, without the graph around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ninokit.graph.kinds import NUM_KINDS
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.base import History, Nowcaster, check_forecast, forecast_dtype
from ninokit.nowcasters.blocks import Block, BlockStates, Tile
from ninokit.nowcasters.scaling import Scale
from ninokit.nowcasters.workers import Workers, plain_mode

__all__ = ["Wnn"]

_TILE_EDGES = 2**12  # edges at a time, so that the hidden features stay small


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
        return self._forecast(graph, history, horizon)

    def _forecast(self, graph: NeuralGraph, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        like = self.weight_embedding.weight
        with Workers(like.device, graph.num_edges) as workers:
            for name in graph.parameters:
                with plain_mode(like.device):
                    prediction = self._predict(graph, name, history[name], horizon, workers)
                yield name, prediction.to(forecast_dtype(history[name]))

    def _predict(self, graph: NeuralGraph, name: str, states: Tensor, horizon: int, workers: Workers) -> Tensor:
        like = self.weight_embedding.weight
        prediction, scales = like.new_empty(states.shape[1:]), {name: Scale.of(states, like)}
        jobs = (
            partial(self._predict_run, carried, run, block.view(prediction), horizon)
            for block in (Block.of(edges, graph) for edges in graph.blocks[name])
            if block.view is not None  # never None beside a parameter
            for carried in [BlockStates.of(block, {name: states}, scales, self.context, like)]
            for run in block.runs(_TILE_EDGES, _TILE_EDGES, workers.threads)
        )
        for _ in workers.run(jobs):
            pass
        return prediction

    def _predict_run(self, carried: BlockStates, run: Sequence[Tile], target: Tensor, horizon: int) -> None:
        """Fill in a few tiles' predictions; `target` is the block's view, of shape (group, dst, src, tap)."""
        kind = torch.tensor([int(carried.block.kind)], device=target.device)
        for tile in run:
            # shape: (group, dst, src, tap, context)
            scaled = carried.features(tile).unflatten(-1, (self.context, -1)).transpose(-1, -2)
            change = self(scaled.flatten(0, 3), kind)[:, horizon - 1].view(scaled.shape[:-1])
            assert carried.scale is not None  # there is one beside a parameter
            target[tile.window] = carried.scale.undo(scaled[..., -1] + change)
