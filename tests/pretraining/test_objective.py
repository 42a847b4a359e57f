"""The L1 distance against sums by hand, and untrained forecasts against what they forecast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ninokit.nowcasters import LineFit
from ninokit.nowcasters.scaling import Scale
from ninokit.pretraining.objective import (
    ScaledSlices,
    horizon_errors,
    linefit_errors,
    mean_error,
    unchanged_errors,
)
from ninokit.pretraining.slices import Slices, SliceSampler, encode_tasks

CONTEXT, HORIZON = 3, 7


@pytest.fixture
def slices(tiny_store) -> Slices:
    sampler = SliceSampler(
        tiny_store.trajectories,
        encode_tasks(tiny_store.trajectories),
        context=CONTEXT,
        horizon=HORIZON,
        spacing=(5, 40),
    )
    return sampler.draw_task(np.random.default_rng(2), "convolutional", 6)


def slowly(slices: Slices, forecast) -> torch.Tensor:
    """Errors of a forecast, parameter by parameter in its own units, scaled as inference scales."""
    rows = []
    for number in range(len(slices.known)):
        total, count = torch.zeros(HORIZON), 0
        for states in slices.states.values():
            past, future = states[number, :CONTEXT], states[number, CONTEXT:]
            scale = Scale.of(past, past)
            for step in range(HORIZON):
                predicted = forecast(past, step + 1)
                total[step] += ((predicted - future[step]) / (scale.deviation + 1e-6)).abs().sum()
            count += past[0].numel()
        rows.append(total / count)
    return torch.stack(rows)


def test_nothing_changes(slices):
    expected = slowly(slices, lambda past, step: past[-1])
    torch.testing.assert_close(unchanged_errors(ScaledSlices.of(slices, CONTEXT)), expected, rtol=1e-4, atol=1e-5)


def test_linefit(slices):
    def forecast(past: torch.Tensor, step: int) -> torch.Tensor:
        return dict(LineFit(CONTEXT, HORIZON).forecast(None, {"x": past}, step))["x"]

    found = linefit_errors(ScaledSlices.of(slices, CONTEXT))
    torch.testing.assert_close(found, slowly(slices, forecast), rtol=1e-4, atol=1e-4)


def test_a_prediction_that_is_right_but_for_one_weight(slices):
    scaled = ScaledSlices.of(slices, CONTEXT)
    blocks = [(block, block.view, block.parameter) for block in slices.graph.edges if block.parameter is not None]
    changes = [view(scaled.changes[name]).movedim(1, -1).clone() for _, view, name in blocks]
    assert horizon_errors(changes, scaled).abs().max() == 0
    changes[0][2, 0, 1, 0, 2, 4] += 0.5
    expected = torch.zeros(6, HORIZON)
    expected[2, 4] = 0.5 / slices.graph.num_parameters
    torch.testing.assert_close(horizon_errors(changes, scaled), expected)


def test_a_parameter_that_does_not_move_does_not_count(slices):
    name = "0.bias"
    slices.states[name][3, :CONTEXT] = 0.25  # its future does move
    scaled = ScaledSlices.of(slices, CONTEXT)
    assert scaled.weights[name].tolist() == [1, 1, 1, 0, 1, 1]
    errors = unchanged_errors(scaled)
    moved = {other: states for other, states in slices.states.items() if other != name}
    left = Slices(slices.task, slices.graph, moved, slices.known)
    expected = slowly(left, lambda past, step: past[-1])[3]
    torch.testing.assert_close(errors[3], expected, rtol=1e-4, atol=1e-5)


def test_the_mean_is_over_known_states_of_each_slice_first():
    errors = torch.tensor([[1.0, 3.0], [5.0, 100.0]])
    assert mean_error(errors, torch.tensor([[True, True], [True, False]])) == 3.5


def test_scales_of_a_stack_are_those_of_its_networks():
    states = torch.randn(4, 5, 3, 2) * torch.tensor([1e-3, 1.0, 50.0, 0.0]).view(4, 1, 1, 1)
    together = Scale.each(states)
    for number, alone in enumerate(Scale.of(x, x) for x in states):
        torch.testing.assert_close(together.mean[number].squeeze(), alone.mean)
        torch.testing.assert_close(together.deviation[number].squeeze(), alone.deviation)
        torch.testing.assert_close(together.apply(states)[number], alone.apply(states[number]))
    assert together.moves.flatten().tolist() == [True, True, True, False]
    assert Scale.each(torch.ones(2, 1, 1)).deviation.flatten().tolist() == [0, 0]
