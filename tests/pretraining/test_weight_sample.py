"""The L1 distance on drawn weights against that on all, and against each weight's by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ninokit.nowcasters import Wnn
from ninokit.nowcasters.scaling import Scale
from ninokit.pretraining.forms import weightwise_changes
from ninokit.pretraining.objective import ScaledSlices, horizon_errors, unchanged_errors
from ninokit.pretraining.slices import Slices, SliceSampler, encode_tasks
from ninokit.pretraining.weight_sample import sampled_errors

CONTEXT, HORIZON = 3, 7


@pytest.fixture(params=["deep", "convolutional"])
def slices(tiny_store, request) -> Slices:
    graphs = encode_tasks(tiny_store.trajectories)
    sampler = SliceSampler(tiny_store.trajectories, graphs, context=CONTEXT, horizon=HORIZON, spacing=(5, 40))
    return sampler.draw_task(np.random.default_rng(2), request.param, 6)


@pytest.fixture
def wnn() -> Wnn:
    torch.manual_seed(0)
    return Wnn(hidden=8, context=CONTEXT, max_horizon=HORIZON)


def test_all_weights_give_the_error_on_all(slices, wnn):
    scaled = ScaledSlices.of(slices, CONTEXT)
    expected = horizon_errors(weightwise_changes(wnn, slices.graph, torch.empty(0), scaled.context), scaled)
    found = sampled_errors(wnn, slices, 10**6, np.random.default_rng(0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_on_all(slices, wnn):
    scaled = ScaledSlices.of(slices, CONTEXT)
    whole = horizon_errors(weightwise_changes(wnn, slices.graph, torch.empty(0), scaled.context), scaled).sum()
    expected = torch.autograd.grad(whole, list(wnn.parameters()))
    found = torch.autograd.grad(
        sampled_errors(wnn, slices, 10**6, np.random.default_rng(0)).sum(), list(wnn.parameters())
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_weight_gives_its_own_error(slices, wnn):
    nn.init.zeros_(wnn.readout[-1].weight)
    nn.init.zeros_(wnn.readout[-1].bias)
    of_each = torch.cat([_changes(states).flatten(2) for states in slices.states.values()], dim=2).abs()
    drawn = {_place(of_each, sampled_errors(wnn, slices, 1, np.random.default_rng(seed))) for seed in range(300)}
    assert len(drawn) > of_each.shape[2] / 3


def _changes(states: torch.Tensor) -> torch.Tensor:
    """Scaled, as inference scales them, parameter by parameter: shape (stack, horizon, shape…)."""
    rows = []
    for network in states:
        scale = Scale.of(network[:CONTEXT], network)
        rows.append((network[CONTEXT:] - network[CONTEXT - 1]) / (scale.deviation + 1e-6))
    return torch.stack(rows)


def _place(of_each: torch.Tensor, errors: torch.Tensor) -> int:
    """The one weight that has these errors in all slices at all horizons."""
    near = torch.isclose(of_each, errors[..., None], rtol=1e-4, atol=1e-5).all(0).all(0)
    (place,) = near.nonzero().flatten().tolist()
    return place


def test_the_mean_over_draws_is_the_error_on_all(slices, wnn):
    expected = sampled_errors(wnn, slices, 10**6, np.random.default_rng(0))
    found = torch.stack([sampled_errors(wnn, slices, 20, np.random.default_rng(seed)) for seed in range(400)])
    standard_error = found.std(0) / 20
    assert ((found.mean(0) - expected).abs() < 5 * standard_error + 1e-6).all()


def test_parameters_that_do_not_move_do_not_count(slices, wnn):
    slices.states[list(slices.states)[-1]][:] = 1.0
    still = unchanged_errors(ScaledSlices.of(slices, CONTEXT))
    nn.init.zeros_(wnn.readout[-1].weight)
    nn.init.zeros_(wnn.readout[-1].bias)
    torch.testing.assert_close(
        sampled_errors(wnn, slices, 10**6, np.random.default_rng(0)), still, rtol=1e-5, atol=1e-6
    )
