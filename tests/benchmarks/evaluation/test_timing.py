"""Seconds of steps and nowcasts: one measurement an arm, without a word on how long it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ninokit.benchmarks.arms import find_arm
from ninokit.benchmarks.evaluation import timing
from ninokit.benchmarks.evaluation.results import Seconds
from ninokit.benchmarks.evaluation.tuning import Setting


@pytest.fixture
def task(tiny):
    return replace(tiny, total_steps=400)


@pytest.fixture
def result(make):
    """With two jumps of `linefit` in the run that was scored."""
    arms = [make.arm(name, [[4, 3, 2, 1]]) for name in ("adamw", "muon")]
    return make.task([*arms, make.arm("linefit", [[4, 3, 2, 1]], option=0.5, nowcasts=True, jumps=(200, 300))])


ARMS = {name: find_arm(name) for name in ("adamw", "muon", "linefit")}


def test_as_many_seconds_as_arms(result, task):
    timed = timing.timed(result, task, ARMS, task.load_data(None), "cpu")
    assert [arm.name for arm in timed.arms] == ["adamw", "muon", "linefit"]
    assert replace(timed, arms=result.arms) == result
    assert [replace(arm, seconds=None) for arm in timed.arms] == list(result.arms)
    adamw, muon, line = (arm.seconds for arm in timed.arms)
    assert [seconds.nowcasts for seconds in (adamw, muon, line)] == [0, 0, 2]
    assert (adamw.nowcast, muon.nowcast) == (0.0, 0.0)
    assert min(adamw.step, muon.step, line.step, line.nowcast) > 0


def test_medians_of_a_clock_that_is_made_up(result, task, monkeypatch):
    """The reading n of the clock is n² / 2."""
    readings = iter(range(10**6))
    monkeypatch.setattr(timing, "_now", lambda inputs: next(readings) ** 2 / 2)
    only = replace(result, arms=result.arms[:1])
    timed = timing.timed(only, task, ARMS, task.load_data(None), "cpu")
    # 300 steps of 2 readings each: the step k takes 2 k + 1/2.
    assert timed.arms[0].seconds == Seconds(299.5, 0.0, 0)


def test_arms_take_turns_with_what_they_were_tuned_to(result, task, monkeypatch):
    taken, plans, step, begin = [], [], timing.train_step, timing.begin
    monkeypatch.setattr(timing, "begin", lambda plan, data: plans.append(plan) or begin(plan, data))
    monkeypatch.setattr(timing, "train_step", lambda *args: taken.append(id(args[1])) or step(*args))
    first, *others = result.arms
    first = replace(first, tuned=replace(first.tuned, setting=Setting(0.5, 0.9)))
    timing.timed(replace(result, arms=(first, *others)), task, ARMS, task.load_data(None), "cpu")
    assert [(plan.arm.name, plan.lr, plan.option) for plan in plans] == [
        ("adamw", 0.5, 0.9),
        ("muon", 0.01, None),
        ("linefit", 0.01, 0.5),
    ]
    models = list(dict.fromkeys(taken))
    assert [taken.count(model) for model in models] == [20 + 300] * 3
    # The warm-up is before an arm's first turn.
    later = [model for _ in range(29) for model in models for _ in range(10)]
    assert taken == [model for model in models for _ in range(30)] + later
