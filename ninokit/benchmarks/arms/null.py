"""An arm that jumps to where it is: it must end as AdamW does, so that a difference is the measurement's own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ninokit.benchmarks.arms.nowcast import nowcasting_arm
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.base import History, Nowcaster, check_forecast, forecast_dtype

__all__ = ["NULL", "NoChange"]


class NoChange(Nowcaster):
    """Predicts the last state.

    Example:
        >>> import torch
        >>> dict(NoChange().forecast(None, {"weight": torch.tensor([[3.0], [4.0]])}, horizon=40))
        {'weight': tensor([4.])}
    """

    context = 2
    max_horizon = 40
    needs_graph = False

    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `Nowcaster.forecast`; neither graph nor horizon counts."""
        check_forecast(self, graph, history, horizon)
        for name, states in history.items():
            yield name, states[-1].to(forecast_dtype(states))


NULL = nowcasting_arm("null", NoChange())
