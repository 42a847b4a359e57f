"""Holt's damped trend against the recursion, number by number."""

from __future__ import annotations

import pytest
import torch

import ninokit
from ninokit.errors import ConfigError, ForecastError
from ninokit.nowcasters import load
from ninokit_siren.nowcaster import Holt


def recursion(states: list[float], horizon: int, alpha: float, beta: float, phi: float) -> float:
    level, trend = states[0], states[1] - states[0]
    for state in states[1:]:
        before = level
        level = alpha * state + (1 - alpha) * (level + phi * trend)
        trend = beta * (level - before) + (1 - beta) * phi * trend
    for _ in range(horizon):
        trend *= phi
        level += trend
    return level


@pytest.mark.parametrize("horizon", [1, 2, 7, 40])
@pytest.mark.parametrize("numbers", [(0.9, 0.5, 0.9), (0.3, 0.8, 0.6), (1.0, 1.0, 1.0)])
def test_recursion(numbers, horizon):
    states = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(horizon))
    ((name, found),) = Holt(*numbers).forecast(None, {"weight": states}, horizon)
    alpha, beta, phi = (torch.tensor(number).item() for number in numbers)  # as float32 has them
    expected = [recursion(series.tolist(), horizon, alpha, beta, phi) for series in states.flatten(1).T]
    assert name == "weight"
    torch.testing.assert_close(found.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_undamped_trend_continues_a_line():
    line = torch.arange(5.0)[:, None] * torch.tensor([2.0, -1.0]) + 3
    ((_, found),) = Holt(phi=1.0).forecast(None, {"weight": line}, horizon=10)
    torch.testing.assert_close(found, torch.tensor([31.0, -11.0]))


def test_still_weights_stay():
    ((_, found),) = Holt().forecast(None, {"weight": torch.full((5, 2), 0.25)}, horizon=40)
    torch.testing.assert_close(found, torch.full((2,), 0.25))


def test_by_name():
    assert isinstance(load("holt"), Holt)


@pytest.mark.parametrize("setting", ["alpha", "beta", "phi"])
@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_numbers_out_of_range(setting, value):
    with pytest.raises(ConfigError, match=f"^Holt: expected {setting} above 0 and at most 1, got {value}$"):
        Holt(**{setting: value})


def test_context_and_horizon_out_of_range():
    with pytest.raises(ConfigError, match=r"^Holt: expected context ≥ 2 and max_horizon ≥ 1, got context=1, max_"):
        Holt(context=1)
    with pytest.raises(ForecastError, match=r"^horizon: expected 1 to 40, got 41$"):
        list(Holt().forecast(None, {"weight": torch.zeros(5, 2)}, 41))


def test_training_with_it():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    nowcasting = ninokit.attach(optimizer, model, "holt", period=10, total_steps=100)
    inputs = torch.randn(64, 3)
    for _ in range(50):
        optimizer.zero_grad()
        (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()
    assert [event.accepted for event in nowcasting.events] == [True] * 5
