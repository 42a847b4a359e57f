"""What every nowcaster is, and what it may rely on.

Shape legend: context = past states, oldest first; shape… = a parameter's own shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ninokit.errors import ForecastError
from ninokit.graph.structure import NeuralGraph

__all__ = ["History", "Nowcaster", "all_finite", "check_forecast", "forecast_dtype"]

History = Mapping[str, Tensor]  # name → (context, shape…)


class Nowcaster(ABC):
    """Predicts the future of a network's parameters from a few past states.

    One unit of the horizon is the time between two states of the history.

    Attributes:
        context: number of past states that it looks at.
        max_horizon: how far it can look ahead.
        needs_graph: whether it reads the network's neural graph.
        needs_weights: whether it has weights to learn, so that its class alone, built without arguments, can't predict.
    """

    context: int
    max_horizon: int
    needs_graph: bool = True
    needs_weights: bool = False

    @abstractmethod
    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """Predict every parameter, one by one.

        Args:
            graph: the network's neural graph; None is enough where `needs_graph` is false.
            history: name → past states, shape (context, shape…), oldest first, finite; not changed.
            horizon: how many units after the last state, from 1 to `max_horizon`.

        Yields:
            Name and prediction, of the parameter's shape, on any device, in the dtype that `forecast_dtype` says or
            a wider one: a history may be narrower than its parameter. It need not be finite.

        Raises:
            ForecastError: if history, graph or horizon are not of this form.
        """


def forecast_dtype(states: Tensor) -> torch.dtype:
    """The dtype to predict a parameter in: that of its states, but float32 at least.

    Args:
        states: the parameter's past states.

    Returns:
        A dtype that keeps what the prediction has over narrow states.
    """
    return torch.promote_types(states.dtype, torch.float32)


def all_finite(tensor: Tensor) -> bool:
    """Whether no number is a NaN or an infinity.

    Looks at the extremes, which a NaN is one of: a twentieth of the time of `torch.isfinite`, and no memory.

    Args:
        tensor: of any shape.

    Returns:
        True also if it has no numbers, or whole ones.
    """
    numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    if not numbers.is_floating_point() or not numbers.numel():
        return True
    return bool(torch.stack(torch.aminmax(numbers)).isfinite().all())


def check_forecast(nowcaster: Nowcaster, graph: NeuralGraph | None, history: History, horizon: int) -> None:
    """Check what `Nowcaster.forecast` is given.

    Args:
        nowcaster: whose context, horizon and need for a graph count.
        graph: see `Nowcaster.forecast`.
        history: see `Nowcaster.forecast`.
        horizon: see `Nowcaster.forecast`.

    Raises:
        ForecastError: naming the parameter, what was expected and what came.
    """
    if not isinstance(horizon, int) or not 1 <= horizon <= nowcaster.max_horizon:
        raise ForecastError(f"horizon: expected 1 to {nowcaster.max_horizon}, got {horizon}")
    if not history:
        raise ForecastError("history: expected the states of at least one parameter, got none")
    if nowcaster.needs_graph and graph is None:
        raise ForecastError(f"graph: {type(nowcaster).__name__} reads the neural graph, got None; pass encode(model)")
    for name, shape in graph.parameters.items() if graph is not None else ():
        if name not in history:
            raise ForecastError(f"history: the parameter {name!r} of the graph is missing")
        if history[name].shape[1:] != shape:
            raise ForecastError(
                f"history of {name}: expected shape {(nowcaster.context, *shape)}, got {tuple(history[name].shape)}"
            )
    for name, states in history.items():
        if states.shape[:1] != (nowcaster.context,):
            raise ForecastError(
                f"history of {name}: expected {nowcaster.context} states, got shape {tuple(states.shape)}"
            )
        if not all_finite(states):
            raise ForecastError(f"history of {name}: a weight is not finite (NaN or infinity)")
