"""Arms with a nowcaster, the one that predicts no change among them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks.arms import Option, Recipe, find_arm, nowcasting_arm, optimizer_arm
from ninokit.benchmarks.arms.null import NULL
from ninokit.benchmarks.tasks.transformers import gpt2
from ninokit.errors import ArchitectureError, ConfigError
from ninokit.nowcasters import LineFit


def jumps(trainer):
    return [(event.step, event.accepted) for event in trainer.events]


@pytest.mark.parametrize(
    ("multiple", "steps"), [(None, [10, 20, 30]), (0.5, [5, 10, 15, 20, 25, 30, 35]), (1.5, [15]), (2.0, [20])]
)
@pytest.mark.parametrize("name", ["linefit", "muon+linefit"])
def test_it_jumps_at_its_period(recipe, begun, name, multiple, steps):
    _, trainer = begun(find_arm(name), replace(recipe, option=multiple), 40)
    assert jumps(trainer) == [(step, True) for step in steps]
    trainer.close()


def test_horizons_are_planned_for_the_steps(recipe, begun):
    _, trainer = begun(find_arm("linefit"), recipe, 40)
    assert [event.horizon for event in trainer.events] == [2, 2, 1]
    trainer.close()
    _, trainer = begun(find_arm("linefit"), replace(recipe, steps=20), 20)
    assert [event.horizon for event in trainer.events] == [2]
    trainer.close()


def test_it_is_its_base_until_the_first_jump(recipe, begun, same_weights):
    for base, name in (("adamw", "linefit"), ("muon", "muon+linefit")):
        (before, _), (model, _) = begun(find_arm(base), recipe, 9), begun(find_arm(name), recipe, 9)
        assert same_weights(before, model)
        (before, _), (model, _) = begun(find_arm(base), recipe, 10), begun(find_arm(name), recipe, 10)
        assert not same_weights(before, model)


def test_the_null_arm_ends_as_adamw_bit_for_bit(recipe, begun, same_weights):
    (expected, _), (model, trainer) = begun(find_arm("adamw"), recipe, 40), begun(NULL, recipe, 40)
    assert jumps(trainer) == [(10, True), (20, True), (30, True)]
    assert same_weights(model, expected)
    trainer.close()


def test_the_average_starts_anew_at_a_jump(recipe, begun, steps_of):
    """Of 10 steps to the jump, 2 that recover, and 3 since then: the mean of the last 3, though the window is 40."""
    model, trainer = begun(NULL, replace(recipe, window=40), 12)
    states = []
    for _ in range(3):
        steps_of(model, trainer, 1)
        states.append(model[3].weight.detach().clone())
    with trainer.averaged():
        torch.testing.assert_close(model[3].weight.detach(), torch.stack(states).mean(0))
    trainer.close()


def test_an_average_over_one_step_is_the_weights(recipe, begun):
    model, trainer = begun(NULL, replace(recipe, window=1), 5)
    weight = model[3].weight.detach().clone()
    with trainer.averaged():
        assert torch.equal(model[3].weight, weight)
    trainer.close()


def test_the_base_keeps_its_default(network, recipe):
    seen, option = [], Option("momentum", 0.9, (0.5, 0.9))

    def optimizers(model, recipe):
        seen.append(recipe.value_of(option))
        return [torch.optim.SGD(model.parameters(), lr=recipe.lr)]

    arm = nowcasting_arm("line", LineFit(), optimizer_arm("sgd", "SGD", optimizers, option))
    arm.begin(network, replace(recipe, option=0.5)).close()
    assert seen == [0.9]
    assert (arm.name, arm.description) == ("sgd+line", "sgd with the nowcaster line")
    assert (arm.option.values, arm.option.default) == ((0.5, 1.0, 1.5, 2.0), 1.0)
    assert (arm.nowcasts, arm.depends_on_budget) == (True, True)


@pytest.mark.parametrize("name", ["adamw_linear", "schedule_free", "snoo"])
def test_arms_that_do_more_than_optimizers_take_no_nowcaster(name):
    message = (
        f"arm {name!r}: expected one that is optimizers alone, to attach 'linefit' to; what this one does besides "
        "would undo the jumps. Attach to another arm, such as 'adamw'"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        find_arm(f"{name}+linefit")


def test_what_the_network_is_called_with_reaches_the_encoder(steps_of):
    """A network that only the tracer encodes, which needs inputs."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3))

        def forward(self, inputs):
            return torch.tanh(inputs @ self.weight.T)

    numbers = {"lr": 0.01, "weight_decay": 0.0, "steps": 40, "period": 10, "window": 4}
    arm = find_arm("nino_h32.v1")
    model = Odd()
    with pytest.raises(ArchitectureError):
        arm.begin(model, Recipe(**numbers))
    trainer = arm.begin(model, Recipe(**numbers, example_inputs=torch.randn(4, 3)))
    steps_of(model, trainer, 10)
    assert jumps(trainer) == [(10, True)]
    trainer.close()


def test_muon_jumps_a_gpt2_with_a_tied_head(recipe):
    model = gpt2("test", vocabulary=11, length=8, width=8, layers=1, heads=2)
    trainer = find_arm("muon+linefit").begin(model, recipe)
    tokens = torch.randint(11, (4, 8))
    losses = []
    for _ in range(12):
        trainer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        trainer.step()
        losses.append(loss.item())
    assert jumps(trainer) == [(10, True)]
    assert losses[-1] < losses[0]
    trainer.close()
