"""The arm: it is NAdam, and takes a nowcaster."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ninokit.benchmarks.arms import Recipe, find_arm
from ninokit.benchmarks.tasks.finding import find_task

RECIPE = Recipe(lr=3e-4, weight_decay=0.01, steps=20, period=5, window=5)


def train(step, zero_grad, model, steps=10):
    task = find_task("siren_petals")
    data = task.load_data(None)
    for batch in range(steps):
        rows = slice(batch * 64, (batch + 1) * 64)
        zero_grad()
        task.loss(model, data.train_inputs[rows], data.train_labels[rows]).backward()
        step()


def network():
    torch.manual_seed(0)
    return find_task("siren_petals").build_model()


@pytest.mark.parametrize(("option", "decay"), [(None, 0.004), (0.016, 0.016)])
def test_it_is_nadam(option, decay):
    expected, model = network(), network()
    optimizer = torch.optim.NAdam(
        expected.parameters(), lr=3e-4, weight_decay=0.01, momentum_decay=decay, decoupled_weight_decay=True
    )
    train(optimizer.step, optimizer.zero_grad, expected)
    trainer = find_arm("nadam").begin(model, replace(RECIPE, option=option))
    train(trainer.step, trainer.zero_grad, model)
    trainer.close()
    assert all(
        torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True)
    )


def test_it_takes_a_nowcaster():
    model = network()
    trainer = find_arm("nadam+holt").begin(model, RECIPE)
    train(trainer.step, trainer.zero_grad, model, steps=16)
    trainer.close()
    assert [(event.step, event.accepted) for event in trainer.events] == [(5, True), (10, True), (15, True)]
