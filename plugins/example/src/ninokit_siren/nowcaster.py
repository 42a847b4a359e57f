"""Holt's damped trend: exponential smoothing of level and trend, of each weight by itself.

Shape legend: context = past states, oldest first; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ninokit.errors import ConfigError
from ninokit.graph import NeuralGraph
from ninokit.nowcasters import Nowcaster
from ninokit.nowcasters.base import History, check_forecast, forecast_dtype

__all__ = ["Holt"]


class Holt(nn.Module, Nowcaster):
    """Predict each weight by a level and a trend that dies away.

    In the state x: ``level' = alpha x + (1 - alpha) (level + phi trend)`` and
    ``trend' = beta (level' - level) + (1 - beta) phi trend``; h units ahead lies
    ``level + (phi + phi² + … + phi^h) trend``. Source: Gardner and McKenzie 1985, Management Science 31(10),
    equations 1 to 3.

    The three numbers are parameters, so that an entry of the zoo may have fitted ones.

    Args:
        alpha: how much of a level is its state, above 0 and at most 1.
        beta: how much of a trend is the last step, above 0 and at most 1.
        phi: how much of a trend is left after a unit, above 0 and at most 1.
        context: number of past states, at least 2.
        max_horizon: how far it may look ahead, at least 1.

    Raises:
        ConfigError: if one of them is out of its range.

    Example:
        >>> import torch
        >>> history = {"weight": torch.arange(5.0)[:, None]}  # one weight that grows by 1 from state to state
        >>> dict(Holt(phi=0.5).forecast(None, history, horizon=2))  # 4 + (1/2 + 1/4) of its trend
        {'weight': tensor([4.4255])}
    """

    needs_graph = False

    def __init__(
        self,
        alpha: float = 0.9,
        beta: float = 0.5,
        phi: float = 0.9,
        context: int = 5,
        max_horizon: int = 40,
    ) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta), ("phi", phi)):
            if not 0 < value <= 1:
                raise ConfigError(f"Holt: expected {name} above 0 and at most 1, got {value}")
        if context < 2 or max_horizon < 1:
            raise ConfigError(
                f"Holt: expected context ≥ 2 and max_horizon ≥ 1, got context={context}, max_horizon={max_horizon}"
            )
        self.alpha, self.beta, self.phi = (nn.Parameter(torch.tensor(value)) for value in (alpha, beta, phi))
        self.context = context
        self.max_horizon = max_horizon

    def coefficients(self, horizon: int) -> Tensor:
        """What each past state counts in a prediction, which is linear in them.

        Args:
            horizon: units ahead, at least 1.

        Returns:
            Shape (context,), float64, with gradient; they add up to 1.
        """
        alpha, beta, phi = self.alpha.double(), self.beta.double(), self.phi.double()
        states = torch.eye(self.context, dtype=torch.float64, device=alpha.device)
        level, trend = states[0], states[1] - states[0]
        for state in states[1:]:
            smooth = alpha * state + (1 - alpha) * (level + phi * trend)
            level, trend = smooth, beta * (smooth - level) + (1 - beta) * phi * trend
        exponents = torch.arange(1, horizon + 1, device=alpha.device)
        return level + (phi**exponents).sum() * trend

    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `ninokit.nowcasters.Nowcaster.forecast`; the graph is not read."""
        check_forecast(self, graph, history, horizon)
        weights = self.coefficients(horizon).detach()
        for name, states in history.items():
            dtype = forecast_dtype(states)
            yield name, torch.tensordot(weights.to(states.device, dtype), states.to(dtype), dims=1)
