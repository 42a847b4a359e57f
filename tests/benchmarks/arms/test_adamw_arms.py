"""AdamW, at a constant rate and at one that falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks.arms import find_arm


class Plain:
    """An optimizer as a training."""

    def __init__(self, optimizer):
        self.zero_grad, self.step = optimizer.zero_grad, optimizer.step


def rates(trainer):
    return [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]


def test_adamw_is_a_plain_loop_bit_for_bit(network, recipe, begun, steps_of, same_weights):
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    steps_of(network, Plain(optimizer), 30)
    model, trainer = begun(find_arm("adamw"), recipe, 30)
    assert same_weights(model, network)
    trainer.close()


def test_beta2_is_adamws(network, recipe, begun, steps_of, same_weights):
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    steps_of(network, Plain(optimizer), 30)
    model, _ = begun(find_arm("adamw"), replace(recipe, option=0.95), 30)
    assert same_weights(model, network)


@pytest.mark.parametrize("name", ["adamw", "adamw_linear", "schedule_free", "muon", "snoo"])
def test_what_needs_no_gradient_is_in_no_optimizer(network, recipe, name):
    network[0].requires_grad_(requires_grad=False)
    trainer = find_arm(name).begin(network, recipe)
    trained = [p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]]
    expected = {id(p) for n, p in network.named_parameters() if not n.startswith("0.")}
    assert len(trained) == len(expected) == 6
    assert {id(p) for p in trained} == expected
    trainer.close()


@pytest.mark.parametrize("name", ["adamw", "adamw_linear", "schedule_free", "muon", "snoo"])
def test_weight_decay_is_of_all_parameters(network, recipe, name):
    trainer = find_arm(name).begin(network, recipe)
    assert {group["weight_decay"] for o in trainer.optimizers for group in o.param_groups} == {0.1}
    trainer.close()


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (None, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0]),
        (0.5, [1.0, 1.0, 1.0, 0.8, 0.4, 0.0, 0.0]),
        (0.2, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_rates_of_linear_decay_by_hand(network, recipe, steps_of, share, expected):
    trainer = find_arm("adamw_linear").begin(network, replace(recipe, lr=2.0, steps=5, option=share))
    seen = rates(trainer)
    for _ in range(6):
        steps_of(network, trainer, 1)
        seen += rates(trainer)
    assert seen == pytest.approx([2.0 * factor for factor in expected], abs=1e-12)
    trainer.close()


def test_linear_decay_is_adamw_until_it_falls(recipe, begun, same_weights):
    constant, _ = begun(find_arm("adamw"), recipe, 20)
    falling, _ = begun(find_arm("adamw_linear"), replace(recipe, option=0.5), 21)  # 21 of 40: the first lower rate
    until, _ = begun(find_arm("adamw_linear"), replace(recipe, option=0.5), 20)
    longer, _ = begun(find_arm("adamw"), recipe, 22)
    assert same_weights(constant, until)
    assert not same_weights(falling, longer)


def test_the_average_spans_the_window(recipe, begun, steps_of):
    """Weights 1, 2, 3, 4 are averaged to 3.125 with a window of 3, as ninokit.training.average tells."""

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

    model = Line()
    trainer = find_arm("adamw").begin(model, replace(recipe, lr=1.0, weight_decay=0.0, window=3))
    for _ in range(4):  # Adam's step along a constant gradient is the rate
        model.weight.grad = torch.tensor(-1.0)
        trainer.step()
    with trainer.averaged():
        assert model.weight.item() == pytest.approx(3.125)
    assert model.weight.item() == pytest.approx(4.0)
    trainer.close()
