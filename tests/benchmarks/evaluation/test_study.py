"""The study of a task with made-up losses: which runs it wants, and what it makes of them."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ninokit.benchmarks.arms import Arm, Option, UnsuitedArmError
from ninokit.benchmarks.evaluation.run import ArmRun
from ninokit.benchmarks.evaluation.store import FinishedRun
from ninokit.benchmarks.evaluation.study import Study, suited_arms
from ninokit.benchmarks.evaluation.tuning import Setting
from ninokit.training import NowcastEvent

FACTORS = [0.5, 1.0, 2.0]


def arm(name, **more):
    return Arm(name=name, description=f"the arm {name}", begin=None, **more)


ADAMW = arm("adamw", option=Option("beta2", default=0.999, values=(0.9, 0.999)))
STRONG = arm("strong")
DECAY = arm("decay", depends_on_budget=True)
JUMPS = arm("jumps", nowcasts=True, depends_on_budget=True)
# Validation says that `strong` is better than `adamw`, the test split the contrary.
LEVELS = {
    "validation": {"adamw": 2.0, "strong": 1.0, "decay": 3.0, "jumps": 0.5},
    "test": {"adamw": 1.0, "strong": 5.0, "decay": 0.1, "jumps": 0.2},
}
JUMPED = (
    NowcastEvent(10, 5, True, "", 0.1),
    NowcastEvent(20, 5, False, "bad", 0.1),
    NowcastEvent(30, 5, True, "", 0.1),
)


class MadeUp:
    """A pool that trains nothing, and remembers what was asked of it."""

    def __init__(self, loss):
        self.loss, self.asked, self.there = loss, [], {}
        self.store = self

    def train(self, plans):
        self.asked.append(plans)
        self.there |= {plan.file: plan for plan in plans}

    def find(self, plan):
        assert plan.file in self.there
        curves = {read_out: {step: self.loss(plan, step) for step in at} for read_out, at in plan.evaluations.items()}
        raw = {step: loss + 0.5 for step, loss in curves["raw"].items()}
        events = JUMPED if plan.arm.nowcasts else ()
        return FinishedRun(ArmRun(curves["averaged"], raw, events), {"torch": "2", "threads": 1 + plan.seed % 2})

    @property
    def plans(self):
        return list(self.there.values())


def made_up(plan, step):
    """Falls with the steps; best at twice the task's rate, and at the option 0.9; seeds differ by hundredths."""
    rate = abs(math.log2(plan.lr / 0.02))
    option = 0.0 if plan.option in (None, 0.9) else 0.25
    return LEVELS[plan.split][plan.arm.name] + rate + option + plan.seed / 100 + 10 / step


@pytest.fixture
def study(tiny):
    return Study(tiny, [ADAMW, STRONG, DECAY, JUMPS], {"sparse": "why"}, [0, 1], [7, 8], FACTORS, "cpu")


@pytest.fixture
def finished(study):
    pool = MadeUp(made_up)
    return study.finish(pool), pool


def test_settings_are_tuned_on_the_validation_split_and_seeds_of_their_own(finished):
    _, pool = finished
    trials = [plan for plan in pool.plans if plan.split == "validation"]
    assert {plan.seed for plan in trials} == {7, 8}
    assert {(plan.steps, plan.curve) for plan in trials} == {(40, None)}
    assert {plan.lr for plan in trials if plan.arm is STRONG} == {0.005, 0.01, 0.02, 0.04}
    compared = [plan for plan in pool.plans if plan.split == "test"]
    assert {plan.seed for plan in compared} == {0, 1}
    assert {plan.curve for plan in compared} == {"averaged"}
    assert len(trials) + len(compared) == len(pool.plans)


def test_the_test_split_comes_last_and_at_once(finished):
    _, pool = finished
    *tuning, comparison = pool.asked
    assert {plan.split for plans in tuning for plan in plans} == {"validation"}
    assert {plan.split for plan in comparison} == {"test"}


def test_all_arms_are_tuned_in_step(finished):
    _, pool = finished
    assert [len({plan.arm.name for plan in plans}) for plans in pool.asked] == [4, 4, 1, 4]  # grid, beyond, option


def test_what_was_tuned(finished):
    result, _ = finished
    assert {arm.name: arm.tuned.setting for arm in result.arms} == {
        "adamw": Setting(0.02, 0.9),
        "strong": Setting(0.02, None),
        "decay": Setting(0.02, None),
        "jumps": Setting(0.02, None),
    }
    first = result.arm("adamw").tuned.trials[0]
    assert first.setting == Setting(0.005, 0.999)
    assert first.averaged == pytest.approx(2 + 2 + 0.25 + 0.075 + 10 / 40)
    assert first.raw == pytest.approx(first.averaged + 0.5)


def test_the_rival_is_the_best_without_nowcasting_by_its_validation(finished):
    assert finished[0].rival == "strong"


def test_the_options_count_for_the_rival(study):
    """At its default, `adamw` is worse than `strong`; at its other option it is better."""

    def loss(plan, step):
        return made_up(plan, step) - 2 * (plan.arm is ADAMW and plan.option == 0.9)

    assert study.finish(MadeUp(loss)).rival == "adamw"


def test_of_equal_rivals_adamw_wins(study):
    pool = MadeUp(lambda plan, step: 1 / step)
    assert replace(study, arms=[STRONG, ADAMW, JUMPS]).finish(pool).rival == "adamw"


def test_a_rival_that_diverged_is_none(study):
    def loss(plan, step):
        return math.nan if plan.arm is STRONG else made_up(plan, step)

    assert study.finish(MadeUp(loss)).rival == "adamw"


def lengths(pool, name):
    compared = [plan for plan in pool.plans if plan.split == "test" and plan.arm.name == name]
    assert sorted({plan.seed for plan in compared}) == [0, 1]
    return sorted({plan.steps for plan in compared})


def test_adamw_and_the_rival_go_on_for_twice_the_steps(finished):
    _, pool = finished
    assert lengths(pool, "adamw") == lengths(pool, "strong") == [80]
    assert lengths(pool, "decay") == lengths(pool, "jumps") == [10, 20, 40]


def test_budgets_and_their_losses(finished):
    result, _ = finished
    assert result.budgets == (10, 20, 40)
    for arm_result, level in zip(result.arms, (1.0, 5.0, 0.1, 0.2), strict=True):
        for budget in result.budgets:
            losses = [level + seed / 100 + 10 / budget for seed in (0, 1)]
            assert arm_result.averaged[budget] == pytest.approx(losses)
            assert arm_result.raw[budget] == pytest.approx([loss + 0.5 for loss in losses])


def test_every_budget_of_an_arm_that_depends_on_it_is_a_run_of_its_own(study):
    def loss(plan, step):
        return made_up(plan, step) + 100 * plan.steps

    decay = study.finish(MadeUp(loss)).arm("decay")
    assert [decay.averaged[budget][0] for budget in (10, 20, 40)] == pytest.approx([1001.1, 2000.6, 4000.35])
    assert decay.curve.steps == tuple(range(1, 41))
    assert decay.curve.losses[0][9] == pytest.approx(4001.1)


def test_the_curve_of_the_longest_run(finished):
    result, _ = finished
    curve = result.arm("strong").curve
    assert curve.steps == tuple(range(1, 81))
    assert curve.losses[1][-1] == pytest.approx(5.01 + 10 / 80)
    assert result.arm("jumps").curve.steps == tuple(range(1, 41))


def test_a_rival_that_depends_on_its_budget_has_a_curve_from_budget_to_budget(study):
    def loss(plan, step):
        return made_up(plan, step) - 10 * (plan.arm is DECAY) - plan.steps / 1000

    pool = MadeUp(loss)
    result = study.finish(pool)
    assert result.rival == "decay"
    assert lengths(pool, "decay") == [10, 20, 40, 80]
    assert lengths(pool, "strong") == [40]
    curve = result.arm("decay").curve
    assert curve.steps == (10, 20, 40, 80)
    assert curve.losses[1] == pytest.approx([0.11 - 10 + 10 / steps - steps / 1000 for steps in curve.steps])


def test_the_read_out_that_validated_better_is_compared(study):
    class RawIsBetter(MadeUp):
        def find(self, plan):
            found = super().find(plan)
            raw = {step: loss - 2 for step, loss in found.run.raw.items()}
            return replace(found, run=replace(found.run, raw=raw))

    pool = RawIsBetter(made_up)
    result = study.finish(pool)
    assert {plan.curve for plan in pool.plans if plan.split == "test"} == {"raw"}
    adamw = result.arm("adamw")
    assert adamw.tuned.read_out == "raw"
    assert adamw.losses is adamw.raw
    assert adamw.curve.losses[0][39] == pytest.approx(adamw.raw[40][0])


def test_adamw_alone_has_a_curve_of_its_trained_weights(finished):
    result, _ = finished
    curve = result.arm("adamw").raw_curve
    assert [row[curve.steps.index(40)] for row in curve.losses] == list(result.arm("adamw").raw[40])
    assert [arm.name for arm in result.arms if arm.raw_curve is not None] == ["adamw"]


def test_jumps_of_the_first_seed_and_refusals_of_all(finished):
    result, _ = finished
    assert (result.arm("jumps").jumps, result.arm("jumps").refused) == ((10, 30), 2)
    assert (result.arm("adamw").jumps, result.arm("adamw").refused) == ((), 0)


def test_what_the_result_says_of_the_task(finished):
    result, _ = finished
    assert (result.task, result.description, result.steps, result.period) == (
        "tiny",
        "three blobs in the plane",
        40,
        10,
    )
    assert (result.seeds, result.unsuited) == ((0, 1), {"sparse": "why"})
    assert result.environment == {"torch": "2", "threads": "1 or 2"}
    assert [arm.nowcasts for arm in result.arms] == [False, False, False, True]


def test_without_tuning_seeds_nothing_is_tuned(study):
    pool = MadeUp(made_up)
    result = replace(study, tuning_seeds=()).finish(pool)
    assert {plan.split for plan in pool.plans} == {"test"}
    assert {arm.tuned.setting for arm in result.arms} == {Setting(0.01, 0.999), Setting(0.01, None)}
    assert {arm.tuned.read_out for arm in result.arms} == {"averaged"}
    assert not any(arm.tuned.trials for arm in result.arms)
    assert result.rival == "adamw"


def test_runs_take_place_on_the_device(study):
    pool = MadeUp(made_up)
    replace(study, device="cuda").finish(pool)
    assert {plan.device for plan in pool.plans} == {"cuda"}


@pytest.mark.parametrize(("steps", "budgets"), [(3, (1, 3)), (1, (1,)), (10, (2, 5, 10))])
def test_budgets_of_few_steps(study, steps, budgets):
    assert replace(study, task=replace(study.task, total_steps=steps)).finish(MadeUp(made_up)).budgets == budgets


def test_unsuited_arms_are_found_out_before_any_step(tiny, register, caplog):
    register([tiny])
    begun = []

    def refuse(model, recipe):
        begun.append(recipe)
        raise UnsuitedArmError("long: why", "why")

    def begin(model, recipe):
        begun.append(recipe)
        return SimpleNamespace(close=lambda: begun.append("closed"))

    fits, sparse = replace(arm("fits"), begin=begin), replace(arm("sparse"), begin=refuse)
    with caplog.at_level("INFO"):
        assert suited_arms(tiny, [fits, sparse], None) == ([fits], {"sparse": "why"})
    assert caplog.messages == ["long: why"]
    assert [getattr(each, "steps", each) for each in begun] == [40, "closed", 40]
