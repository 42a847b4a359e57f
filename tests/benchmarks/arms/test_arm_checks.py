"""The conformance kit on arms: sound ones pass, and every kind of fault is found."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ninokit.benchmarks.arms import Option, Trainer, UnsuitedArmError, find_arm, optimizer_arm
from ninokit.benchmarks.arms.null import NULL
from ninokit.errors import DependencyError
from ninokit.testing import check_plugin
from ninokit.testing.plugins.arms import arm_checks
from ninokit.testing.plugins.findings import run_check


def findings(arm):
    return [(f.title, f.outcome.value, f.detail) for f in map(run_check, arm_checks(arm))]


def sgd(parameters):
    return optimizer_arm("sgd", "", lambda model, recipe: [torch.optim.SGD(parameters(model), lr=recipe.lr)])


def reading(averaged):
    """SGD that is read out in another way."""

    def begin(model, recipe):
        optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr)

        class ReadOut:
            events = ()

            @contextmanager
            def averaged(self, batches):
                yield from averaged(model, optimizer)

            def detach(self):
                pass

        return Trainer([optimizer], ReadOut())

    return replace(find_arm("adamw"), name="own", option=None, begin=begin)


def test_a_sound_arm():
    assert findings(sgd(lambda model: model.parameters())) == [
        ("arm sgd: training", "passed", "12 steps, 0 nowcasts"),
        ("arm sgd: read-outs", "passed", "the weights came back bit for bit, and the training went on"),
    ]


def test_every_value_of_the_option_is_tried():
    titles = [title for title, _, _ in findings(NULL)]
    assert titles == [f"arm null: training, period {value}" for value in ("0.5", "1", "1.5", "2")] + [
        "arm null: read-outs"
    ]
    assert {outcome for _, outcome, _ in findings(NULL)} == {"passed"}
    assert findings(NULL)[1][2] == "12 steps, 1 nowcasts"


def test_weights_that_stand_still():
    (training, *_) = findings(sgd(lambda model: list(model.parameters())[:-1]))
    message = "after 12 steps: expected all weights moved and finite; still ['3.bias'], broken []"
    assert training == ("arm sgd: training", "FAILED", message)


def test_a_value_that_breaks_the_weights():
    option = Option("factor", 1.0, (1.0, float("inf")))

    def optimizers(model, recipe):
        return [torch.optim.SGD(model.parameters(), lr=recipe.lr * recipe.value_of(option))]

    sound, broken, _ = findings(optimizer_arm("sgd", "", optimizers, option))
    assert sound[1] == "passed"
    assert broken[:2] == ("arm sgd: training, factor inf", "FAILED")
    assert re.fullmatch(r"after 12 steps: expected all weights moved and finite; still \[.*\], broken \['.*", broken[2])


def writes(value, *, after):
    """Writes a number into all weights before or after the read-out, and leaves it there."""

    def averaged(model, optimizer):
        if after:
            yield
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(value)
        if not after:
            yield

    return averaged


@pytest.mark.parametrize(
    ("averaged", "message"),
    [
        (writes(float("nan"), after=False), "averaged: expected finite weights"),
        (
            writes(1.0, after=True),
            "averaged: afterwards 0.weight, 1.weight, 1.bias, 3.weight, 3.bias differ; put the same bits back",
        ),
    ],
)
def test_read_outs_at_fault(averaged, message):
    assert findings(reading(averaged))[-1] == ("arm own: read-outs", "FAILED", message)


@pytest.mark.parametrize(
    "error", [UnsuitedArmError("arm 'a': not this one", "not this"), DependencyError("no library")]
)
def test_what_can_not_be_trained_here_is_skipped(error):
    def begin(model, recipe):
        raise error

    found = findings(replace(find_arm("snoo"), begin=begin))
    assert {(outcome, detail) for _, outcome, detail in found} == {("skipped", str(error))}
    assert len(found) == 5


def test_the_built_in_plugin_passes():
    report = check_plugin("arms")
    assert report.passed, str(report)
    assert {finding.title for finding in report.findings} >= {f"arm {name}: read-outs" for name in ("adamw", "muon")}
