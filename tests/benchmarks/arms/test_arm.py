"""What an arm is described by."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks.arms import Option, Recipe, UnsuitedArmError, averaging_trainer, optimizer_arm
from ninokit.errors import ConfigError


@pytest.mark.parametrize(
    ("default", "values"), [(5.0, (1.0, 2.0)), (1.0, (1.0, 1.0)), (1.0, (1.0, 2.0, 3.0, 4.0, 5.0)), (1.0, ())]
)
def test_option_has_at_most_four_values_with_its_default(default, values):
    message = (
        f"option 'rate': expected at most 4 different values with the default among them; got {values} and the default "
        f"{default}"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Option("rate", default, values)


@pytest.mark.parametrize("setting", ["steps", "period", "window"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_steps_of_a_recipe_are_whole(setting, value):
    numbers = {"steps": 10, "period": 5, "window": 3, setting: value}
    message = f"recipe: {setting} must be a whole number of steps, at least 1; got {value}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Recipe(lr=0.1, weight_decay=0.0, **numbers)


def test_value_of_an_option():
    option = Option("beta", 0.5, (0.25, 0.5))
    numbers = {"lr": 0.1, "weight_decay": 0.0, "steps": 10, "period": 5, "window": 3}
    assert Recipe(**numbers).value_of(option) == 0.5
    assert Recipe(**numbers, option=0.25).value_of(option) == 0.25
    assert Recipe(**numbers, option=0.0).value_of(option) == 0.0


def test_an_unsuited_arm_is_a_setting_at_fault():
    error = UnsuitedArmError("arm 'a': no, since", "no")
    assert isinstance(error, ConfigError)
    assert (str(error), error.reason) == ("arm 'a': no, since", "no")


def test_optimizers_step_in_their_order_then_the_schedulers():
    model, log = nn.Linear(2, 2), []

    def note(name):
        return lambda *_: log.append(name)

    optimizers = [torch.optim.SGD([parameter], lr=1.0) for parameter in model.parameters()]
    hooks = [o.register_step_post_hook(note(name)) for o, name in zip(optimizers, "ab", strict=True)]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda step: log.append(f"rate {step}") or 0.5**step)
    trainer = averaging_trainer(model, optimizers, 3, schedulers=[scheduler], hooks=hooks)
    log.clear()
    model(torch.ones(1, 2)).sum().backward()
    trainer.step()
    assert log == ["a", "b", "rate 1"]
    trainer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
    trainer.close()
    trainer.step()
    assert log[3:] == ["rate 2"]


def test_what_makes_the_optimizers_gets_network_and_recipe(network, recipe):
    asked = []

    def optimizers(model, recipe):
        asked.append((model, recipe))
        return [torch.optim.SGD(model.parameters(), lr=recipe.lr)]

    arm = optimizer_arm("sgd", "SGD", optimizers)
    trainer = arm.begin(network, recipe)
    assert asked == [(network, recipe)]
    assert (arm.optimizers, arm.option, arm.nowcasts, arm.depends_on_budget) == (optimizers, None, False, False)
    assert trainer.events == ()
    trainer.close()


def test_the_plugin_guides_arm(code_blocks, network, recipe, steps_of):
    scope: dict[str, object] = {}
    exec(code_blocks("docs/plugins.md")[4], scope)
    trainer = scope["ADAMAX"].begin(network, replace(recipe, option=0.9))
    (group,) = trainer.optimizers[0].param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.01, (0.9, 0.9), 0.1)
    losses = steps_of(network, trainer, 30)
    assert losses[-1] < losses[0]
    trainer.close()
