"""Results: their file, and savings of steps and seconds."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from ninokit.benchmarks.evaluation.report import format_evaluation
from ninokit.benchmarks.evaluation.results import Evaluation, Seconds, joined, read_evaluation
from ninokit.benchmarks.evaluation.savings import Curve
from ninokit.benchmarks.evaluation.tuning import Trial
from ninokit.errors import ConfigError


def test_round_trip(evaluation, tmp_path):
    path = tmp_path / "evaluation.json"
    first = replace(evaluation.tasks[0], arms=(replace(evaluation.tasks[0].arms[0], seconds=Seconds(0.1, 0.2, 3)),))
    evaluation = replace(evaluation, tasks=(first, evaluation.tasks[1]))
    evaluation.write(path)
    assert read_evaluation(path) == evaluation
    assert json.loads(path.read_text())["tasks"][0]["arms"][0]["seconds"] == {
        "step": 0.1,
        "nowcast": 0.2,
        "nowcasts": 3,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["evaluation.json"]


def test_what_adamws_average_saves(make):
    adamw = make.arm("adamw", [[4, 3, 2, 1, 0.5]])
    task = make.task([adamw])
    assert task.average_saved is None
    slower = Curve(tuple(2 * step for step in adamw.curve.steps), adamw.curve.losses)
    task = make.task([replace(adamw, raw_curve=slower)])
    assert task.average_saved.share == pytest.approx(0.5)
    assert "at its averaged weights `adamw` saves 50 % [50, 50]" in format_evaluation(Evaluation({}, (task,)))


def test_savings_that_were_computed_are_not_written(evaluation, tmp_path):
    evaluation.write(tmp_path / "before.json")
    evaluation.tasks[0].saved("linefit", "adamw")
    evaluation.write(tmp_path / "after.json")
    assert (tmp_path / "after.json").read_text() == (tmp_path / "before.json").read_text()
    assert read_evaluation(tmp_path / "after.json") == evaluation


def test_savings_are_not_taken_over_by_another_result(evaluation):
    task = evaluation.tasks[0]
    before = task.saved("muon", "adamw")
    assert task.saved("muon", "adamw") is before
    adamw, muon, _ = task.arms
    changed = replace(task, arms=(adamw, replace(muon, raw=adamw.averaged)))
    assert changed.saved("muon", "adamw").share == pytest.approx(0)
    assert task.saved("muon", "adamw") is before


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_losses_that_diverged_are_null_in_the_file_and_nan_again(evaluation, tmp_path, loss):
    path = tmp_path / "evaluation.json"
    arm = evaluation.tasks[0].arms[1]
    tuned = replace(arm.tuned, trials=(Trial(arm.tuned.setting, loss, 2.0),))
    curve = replace(arm.curve, losses=((*arm.curve.losses[0][:-1], loss), arm.curve.losses[1]))
    diverged = replace(arm, tuned=tuned, curve=curve, averaged={400: (loss, 1.0)}, raw={400: (1.0, loss)})
    replace(evaluation, tasks=(replace(evaluation.tasks[0], arms=(diverged,)),)).write(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    found = read_evaluation(path).tasks[0].arms[0]
    assert found.averaged[400] == pytest.approx((math.nan, 1.0), nan_ok=True)
    assert found.raw[400] == pytest.approx((1.0, math.nan), nan_ok=True)
    assert math.isnan(found.curve.losses[0][-1])
    assert math.isnan(found.tuned.trials[0].averaged)
    assert found.tuned.trials[0].score == 2.0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "FileNotFoundError: [Errno 2] No such file or directory"),
        ("{", "ValidationError: 1 validation error for"),
    ],
)
def test_no_evaluation(tmp_path, content, reason):
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    expected = f"{path}: expected the evaluation.json that `ninokit evaluate` wrote; got {reason}"
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}"):
        read_evaluation(path)


def test_arms_of_all_tasks_in_their_order(evaluation):
    assert evaluation.arms == ("adamw", "muon", "linefit")
    assert Evaluation({}, ()).arms == ()


def test_losses_are_those_of_the_read_out(evaluation):
    adamw, muon, _ = evaluation.tasks[0].arms
    assert adamw.losses is adamw.averaged
    assert muon.losses is muon.raw


def test_steps_saved_by_hand(evaluation):
    """`muon` has 2 after 400 steps, where AdamW is after 500; `linefit` has 0.5, where AdamW is after 800."""
    task = evaluation.tasks[0]
    assert task.saved("muon", "adamw").share == pytest.approx(1 - 400 / 500)
    assert task.saved("linefit", "adamw").share == pytest.approx(1 - 400 / 800)


def test_what_the_average_alone_saves(evaluation, tmp_path):
    """AdamW's average has 2.5 after 400 steps, its trained weights after 500."""
    task = evaluation.tasks[0]
    assert task.average_saved is None
    adamw, *others = task.arms
    raw = tuple(tuple(loss + 0.5 for loss in row) for row in adamw.curve.losses)
    task = replace(task, arms=(replace(adamw, raw_curve=replace(adamw.curve, losses=raw)), *others))
    assert task.average_saved.share == pytest.approx(1 - 400 / 500)
    replace(evaluation, tasks=(task,)).write(tmp_path / "evaluation.json")
    assert read_evaluation(tmp_path / "evaluation.json").tasks == (task,)


def test_seconds_saved(evaluation):
    """300 s of the arm and 3 nowcasts of 10 s, against 500 steps of a second."""
    task = evaluation.tasks[0]
    assert task.seconds_saved("muon", "adamw") is None
    adamw, muon, _ = task.arms
    arms = (replace(adamw, seconds=Seconds(1.0, 0.0, 0)), replace(muon, seconds=Seconds(0.75, 10.0, 3)))
    assert replace(task, arms=arms).seconds_saved("muon", "adamw") == pytest.approx(1 - 330 / 500)
    assert replace(task, arms=(adamw, arms[1])).seconds_saved("muon", "adamw") is None
    assert replace(task, arms=(arms[0], muon)).seconds_saved("muon", "adamw") is None
    assert Seconds(0.5, 10.0, 3).of(100) == 80


def test_environments_that_differ():
    environments = [
        {"torch": "2.4", "commit": None},
        {"torch": "2.4", "commit": "abc"},
        {"torch": "2.4", "commit": None},
    ]
    assert joined(environments) == {"torch": "2.4", "commit": "None or abc"}
