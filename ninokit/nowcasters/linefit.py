"""Linear extrapolation: a nowcaster without weights, the floor in every comparison."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ninokit.errors import ConfigError
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.base import History, Nowcaster, check_forecast, forecast_dtype
from ninokit.nowcasters.workers import plain_mode

__all__ = ["LineFit"]


class LineFit(Nowcaster):
    """Fit a line to the past states of every weight by least squares, and read it off ahead.

    Args:
        context: number of past states, at least 2.
        max_horizon: how far it may look ahead, at least 1. A line soon leaves the curve: on the MNIST-1D tasks 1 to 3
            helped or did no harm, 5 and more did harm.

    Raises:
        ConfigError: if context or horizon are out of range.

    Example:
        >>> import torch
        >>> history = {"weight": torch.arange(5.0)[:, None]}  # one weight that grows by 1 from state to state
        >>> dict(LineFit().forecast(None, history, horizon=2))
        {'weight': tensor([6.])}
    """

    needs_graph = False

    def __init__(self, context: int = 5, max_horizon: int = 2) -> None:
        if context < 2 or max_horizon < 1:
            raise ConfigError(
                f"LineFit: expected context ≥ 2 and max_horizon ≥ 1, got context={context}, max_horizon={max_horizon}"
            )
        self.context = context
        self.max_horizon = max_horizon

    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `Nowcaster.forecast`; the graph is not read."""
        check_forecast(self, graph, history, horizon)
        times = torch.arange(self.context, dtype=torch.float64)
        centred = times - times.mean()
        # The fitted line is linear in the states: x̂ = Σ w_t x_t with Σ w_t = 1.
        ahead = times[-1] + horizon - times.mean()
        weights = 1 / self.context + ahead * centred / centred.square().sum()
        for name, states in history.items():
            dtype = forecast_dtype(states)
            with plain_mode(states.device):
                prediction = torch.tensordot(weights.to(states.device, dtype), states.to(dtype), dims=1)
            yield name, prediction
