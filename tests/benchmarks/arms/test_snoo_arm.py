"""SNOO against a slow twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ninokit.benchmarks.arms import find_arm

CURVATURE = np.array([0.5, 1.0, 4.0])
MINIMUM = np.array([1.0, -2.0, 3.0])


def snoo_by_numpy(weights, steps, *, lr, decay, interval):
    """A quadratic's weights after each step; the names are those of the papers."""
    m, v = np.zeros(3), np.zeros(3)
    slow, momentum = weights.copy(), np.zeros(3)
    states = []
    for t in range(1, steps + 1):
        gradient = CURVATURE * (weights - MINIMUM)
        weights = weights - lr * decay * weights
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weights = weights - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        if t % interval == 0:
            displacement = slow - weights
            momentum = 0.5 * momentum + displacement
            slow = slow - 0.7 * (displacement + 0.5 * momentum)
            weights = slow.copy()
        states.append(weights)
    return np.array(states)


@pytest.mark.parametrize(("option", "interval"), [(None, 25), (10, 10), (3, 3)])
def test_snoo_is_its_slow_twin(recipe, option, interval):
    model = nn.Linear(3, 1, bias=False).double()
    start = model.weight.detach().numpy()[0].copy()
    trainer = find_arm("snoo").begin(model, replace(recipe, option=option))
    states = []
    for _ in range(60):
        trainer.zero_grad()
        (torch.from_numpy(CURVATURE) * (model.weight - torch.from_numpy(MINIMUM)) ** 2 / 2).sum().backward()
        trainer.step()
        states.append(model.weight.detach().numpy()[0].copy())
    expected = snoo_by_numpy(start, 60, lr=0.01, decay=0.1, interval=interval)
    np.testing.assert_allclose(states, expected, rtol=1e-11)
    trainer.close()


def test_the_average_sees_the_weights_after_the_outer_step(recipe, begun):
    model, trainer = begun(find_arm("snoo"), replace(recipe, option=5, window=1), 5)
    after = model[0].weight.detach().clone()
    with trainer.averaged():  # over one step
        assert torch.equal(model[0].weight, after)
    trainer.close()


def test_a_closed_training_takes_no_outer_step(recipe, begun, same_weights):
    inner, plain = begun(find_arm("adamw"), recipe, 4)
    model, trainer = begun(find_arm("snoo"), replace(recipe, option=5), 4)
    assert same_weights(model, inner)
    trainer.close()
    for one in (trainer, plain):
        one.step()  # with the gradients that are there
    assert same_weights(model, inner)
