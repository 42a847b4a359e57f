"""Checks of a nowcaster family on a small network.

Shape legend: context = past states, oldest first; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import ninokit
from ninokit.errors import ForecastError
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.base import Nowcaster, forecast_dtype
from ninokit.testing.plugins.findings import Check, CheckError, NotApplicableError

__all__ = ["check_forecasts", "nowcaster_checks"]


def nowcaster_checks(name: str, family: type[Nowcaster]) -> Iterator[Check]:
    """Checks of a nowcaster family; one with weights to learn is checked with those that it starts from.

    Args:
        name: the family's.
        family: its class.

    Yields:
        The checks.
    """
    yield Check(f"nowcaster {name}: forecast", lambda: check_forecasts(_build(family)))
    yield Check(f"nowcaster {name}: errors", lambda: _check_errors(_build(family)))


def _build(family: type[Nowcaster]) -> Nowcaster:
    try:
        nowcaster = family()
    except TypeError as error:
        if not family.needs_weights:
            raise CheckError(f"{family.__name__}() can't be built without arguments: {error}") from error
        raise NotApplicableError(f"{family.__name__}() needs arguments") from error
    for setting in ("context", "max_horizon"):
        value = getattr(nowcaster, setting, None)
        if not isinstance(value, int) or value < 1:
            raise CheckError(f"{setting}: expected a whole number, at least 1, got {value!r}")
    return nowcaster


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def _history(nowcaster: Nowcaster, model: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A random walk from the network's weights; shape (context, shape…) a parameter."""
    steps = {name: torch.randn(nowcaster.context, *p.shape) / 100 for name, p in model.named_parameters()}
    return {name: (p.detach() + steps[name].cumsum(0)).to(dtype) for name, p in model.named_parameters()}


def check_forecasts(nowcaster: Nowcaster) -> str:
    """Check a nowcaster's predictions on a small network.

    Args:
        nowcaster: ready to predict.

    Returns:
        What was tried.

    Raises:
        CheckError: if a parameter is left out, a prediction is of another shape or narrower than it should be, or the
            history is changed.
    """
    model = _network()
    graph = ninokit.encode(model)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for horizon in (1, nowcaster.max_horizon):
            _check_predictions(nowcaster, graph, _history(nowcaster, model, dtype), horizon)
    return f"context {nowcaster.context}, horizons 1 and {nowcaster.max_horizon}, in float32, float64 and bfloat16"


def _check_predictions(nowcaster: Nowcaster, graph: NeuralGraph, history: dict[str, Tensor], horizon: int) -> None:
    before = {name: states.clone() for name, states in history.items()}
    found = list(nowcaster.forecast(graph, history, horizon))
    names = [name for name, _ in found]
    if sorted(names) != sorted(history):
        raise CheckError(f"expected a prediction of each of {sorted(history)}, got {names}")
    changed = [name for name in before if not torch.equal(before[name], history[name])]
    if changed:
        raise CheckError(f"it changes the history of {', '.join(changed)}; copy what is to be changed")
    for name, prediction in found:
        _check_prediction(name, prediction, history[name])


def _check_prediction(name: str, prediction: Tensor, states: Tensor) -> None:
    least = forecast_dtype(states)
    if prediction.shape != states.shape[1:] or torch.promote_types(prediction.dtype, least) != prediction.dtype:
        raise CheckError(
            f"{name}: expected shape {tuple(states.shape[1:])} in {least} at least, got {tuple(prediction.shape)} in "
            f"{prediction.dtype}"
        )


def _check_errors(nowcaster: Nowcaster) -> str:
    model = _network()
    graph, history = ninokit.encode(model), _history(nowcaster, model)
    short = {name: states[1:] for name, states in history.items()}
    broken = {name: states * float("nan") for name, states in history.items()}
    wrong: dict[str, Callable[[], object]] = {
        "horizon 0": lambda: list(nowcaster.forecast(graph, history, 0)),
        "a horizon beyond max_horizon": lambda: list(nowcaster.forecast(graph, history, nowcaster.max_horizon + 1)),
        "a state too few": lambda: list(nowcaster.forecast(graph, short, 1)),
        "weights that are not finite": lambda: list(nowcaster.forecast(graph, broken, 1)),
        "no history": lambda: list(nowcaster.forecast(graph, {}, 1)),
    }
    for what, call in wrong.items():
        try:
            call()
        except ForecastError:
            continue
        raise CheckError(f"{what}: expected ForecastError, got a forecast; call ninokit.nowcasters.base.check_forecast")
    return f"{', '.join(wrong)}: refused"
