"""What holds for the training of every arm."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from ninokit.benchmarks.arms import find_arm

NAMES = ["adamw", "adamw_linear", "schedule_free", "muon", "snoo", "linefit", "muon+linefit"]


def hooks(optimizer):
    return [hook for name, found in vars(optimizer).items() if "hook" in name for hook in found.values()]


@pytest.fixture(params=NAMES)
def arm(request):
    return find_arm(request.param)


def test_closing_leaves_no_hook(recipe, begun, steps_of, arm):
    model, trainer = begun(arm, recipe, 15)
    trainer.close()
    trainer.close()
    assert [hooks(optimizer) for optimizer in trainer.optimizers] == [[] for _ in trainer.optimizers]
    events = trainer.events
    steps_of(model, trainer, 10)
    assert trainer.events == events


def test_hooks_would_be_seen(recipe, begun):
    _, trainer = begun(find_arm("snoo"), recipe, 1)
    assert len(hooks(trainer.optimizers[0])) > 1


@pytest.mark.parametrize("way", ["raw", "averaged"])
def test_read_outs_put_back_what_was_there(recipe, begun, same_weights, arm, way):
    model, trainer = begun(arm, recipe, 15)
    before = deepcopy(model)
    read_out = getattr(trainer, way)
    with read_out():
        assert same_weights(model, before) == (way == "raw")
    assert same_weights(model, before)
    with pytest.raises(ValueError, match="out of order"), read_out():
        raise ValueError("out of order")
    assert same_weights(model, before)
    trainer.close()


def test_reading_out_changes_no_training(recipe, begun, steps_of, same_weights, arm):
    (expected, undisturbed), (model, trainer) = begun(arm, recipe, 15), begun(arm, recipe, 15)
    for _ in range(3):
        with trainer.averaged([torch.randn(8, 3)]):
            model(torch.randn(8, 3))
    for network, one in ((expected, undisturbed), (model, trainer)):
        steps_of(network, one, 15)
        one.close()
    assert same_weights(model, expected)


def test_only_arms_that_say_so_depend_on_the_budget(recipe, begun, same_weights, arm):
    (short, _), (long, _) = begun(arm, recipe, 40), begun(arm, replace(recipe, steps=80), 40)
    assert same_weights(short, long) != arm.depends_on_budget


def test_every_value_of_the_option_is_another_training(recipe, begun, same_weights, arm):
    begin = replace(recipe, steps=120, lr=0.001)
    values = (*arm.option.values, None)
    *models, default = (begun(arm, replace(begin, option=value), 110)[0] for value in values)
    for index, model in enumerate(models):
        assert not any(same_weights(model, other) for other in models[:index])
    same = [value for value, model in zip(arm.option.values, models, strict=True) if same_weights(model, default)]
    assert same == [arm.option.default]
