"""Schedule-free AdamW: its own average, and its warm-up."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks.arms import find_arm

ARM = find_arm("schedule_free")


def test_the_average_is_the_mean_of_the_steps_of_z(network, recipe, steps_of):
    """Without warm-up and at a constant rate all z count alike (Defazio et al. 2024, equation 5)."""
    trainer = ARM.begin(network, replace(recipe, window=1))
    (optimizer,) = trainer.optimizers
    weight, states = network[3].weight, []
    for _ in range(7):
        steps_of(network, trainer, 1)
        states.append(optimizer.state[weight]["z"].clone())
    with trainer.averaged():
        torch.testing.assert_close(weight.detach(), torch.stack(states).mean(0), rtol=0, atol=1e-6)
    x, z = torch.stack(states).mean(0), states[-1]
    torch.testing.assert_close(weight.detach(), 0.9 * x + 0.1 * z, rtol=0, atol=1e-6)  # the weights at y


def test_reading_it_changes_nothing(recipe, begun, steps_of, same_weights):
    undisturbed, other = begun(ARM, recipe, 10)
    model, trainer = begun(ARM, recipe, 10)
    before = deepcopy(model)
    with trainer.averaged([torch.randn(8, 3)]):
        assert not same_weights(model, before)
    assert same_weights(model, before)
    with pytest.raises(ValueError, match="out of order"), trainer.averaged([torch.randn(8, 3)]):
        raise ValueError("out of order")
    assert same_weights(model, before)
    for network, one in ((model, trainer), (undisturbed, other)):
        steps_of(network, one, 10)
    assert same_weights(model, undisturbed)


def test_batches_that_fail_leave_the_weights(recipe, begun, same_weights):
    model, trainer = begun(ARM, recipe, 10)
    before = deepcopy(model)
    with pytest.raises(RuntimeError, match="shapes"), trainer.averaged([torch.randn(8, 3), torch.randn(8, 4)]):
        raise AssertionError("not reached")
    assert same_weights(model, before)
    trainer.step()  # in its training mode


def test_statistics_are_those_of_the_average(recipe, begun):
    model, trainer = begun(ARM, recipe, 10)
    inputs = [torch.randn(32, 3), torch.randn(32, 3)]
    own = model[1].running_mean.clone()
    with trainer.averaged(inputs):
        means = torch.stack([model[0](batch).mean(0) for batch in inputs]).mean(0)
        torch.testing.assert_close(model[1].running_mean, means.detach())
        assert model.training
    assert torch.equal(model[1].running_mean, own)
    with trainer.averaged():
        assert torch.equal(model[1].running_mean, own)


@pytest.mark.parametrize(("window", "warm_up"), [(1, 0), (2, 1), (50, 25), (200, 100), (900, 100)])
@pytest.mark.parametrize("steps", [20, 4000])
def test_warm_up_is_half_of_the_window_but_at_most_100(recipe, window, warm_up, steps):
    (optimizer,) = ARM.begin(nn.Linear(2, 2), replace(recipe, window=window, steps=steps)).optimizers
    assert optimizer.param_groups[0]["warmup_steps"] == warm_up


def test_settings_reach_the_optimizer(recipe):
    (optimizer,) = ARM.begin(nn.Linear(2, 2), replace(recipe, option=0.98)).optimizers
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.01, (0.98, 0.999), 0.1)
