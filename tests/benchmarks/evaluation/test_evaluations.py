"""`evaluate` and `compare` on real, tiny trainings."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from ninokit.benchmarks import Task
from ninokit.benchmarks.evaluation.evaluate import compare, evaluate
from ninokit.benchmarks.evaluation.report import format_evaluation
from ninokit.benchmarks.evaluation.results import read_evaluation
from ninokit.benchmarks.evaluation.settings import CompareConfig, EvaluateConfig
from ninokit.errors import ConfigError
from ninokit.plugins import registry

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer resamples, and no git for every run."""
    monkeypatch.setattr("ninokit.benchmarks.evaluation.savings._RESAMPLES", 100)
    monkeypatch.setattr("ninokit.benchmarks.evaluation.store.describe_environment", lambda device: {"device": device})


@pytest.fixture
def config(tmp_path, short, register):
    register([short])
    return EvaluateConfig(
        tasks=["short"],
        arms=["twin", "twice", "null", "linefit", "sparse"],
        seeds=[0, 1, 2],
        tuning_seeds=[100],
        lr_factors=[1.0],
        out=str(tmp_path / "out"),
        store=str(tmp_path / "runs"),
    )


@pytest.fixture
def quick(config, tmp_path):
    return CompareConfig(
        task="short", arms=["null", "linefit"], seeds=[0], out=str(tmp_path / "out"), store=str(tmp_path / "runs")
    )


def test_what_trains_alike_saves_nothing_and_what_is_faster_saves(config):
    result = evaluate(config).tasks[0]
    adamw, twin, null = map(result.arm, ("adamw", "twin", "null"))
    assert [row[:16] for row in adamw.curve.losses] == list(twin.curve.losses)
    assert null.averaged == twin.averaged == adamw.averaged
    assert null.raw == twin.raw == adamw.raw
    assert null.jumps
    for name in ("twin", "null"):
        saved = result.saved(name, "adamw")
        assert (saved.share, saved.bound) == (0.0, "=")
        assert saved.low == pytest.approx(0, abs=1e-9) == saved.high
        assert not saved.is_claim
    faster = result.saved("twice", "adamw")
    assert faster.is_claim
    assert faster.low > 0.2
    assert result.rival == "twice"
    assert result.saved("adamw", "twice").high < 0
    assert result.arm("linefit").losses != adamw.losses


def test_its_files(config, tmp_path):
    evaluation = evaluate(config)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "evaluation.json",
        "evaluation.md",
        "savings.png",
        "short.png",
    ]
    assert read_evaluation(out / "evaluation.json") == evaluation
    assert (out / "evaluation.md").read_text() == format_evaluation(evaluation)
    assert evaluation.settings["lr_factors"] == [1.0]


def test_arms_that_do_not_suit_are_told(config):
    evaluation = evaluate(config)
    assert evaluation.tasks[0].unsuited == {"sparse": "it has no embeddings"}
    assert "`sparse` does not suit this network: it has no embeddings." in format_evaluation(evaluation)
    assert evaluation.arms == ("adamw", "twin", "twice", "null", "linefit")


def test_the_test_split_is_read_for_the_comparison_alone(config, monkeypatch):
    splits, score = [], Task.held_out_loss

    def look(task, model, data, split):
        splits.append(split)
        return score(task, model, data, split)

    monkeypatch.setattr(Task, "held_out_loss", look)
    evaluate(config)
    comparison = splits.index("test")
    assert set(splits[:comparison]) == {"validation"}
    assert set(splits[comparison:]) == {"test"}


def test_seeds_of_tuning_and_of_the_comparison(config, trained):
    evaluate(config)
    assert {(plan.split, plan.seed) for plan in trained} == {
        ("validation", 100),
        *(("test", seed) for seed in (0, 1, 2)),
    }
    assert {plan.option for plan in trained if plan.split == "validation" and plan.arm.name == "null"} == {
        *(0.5, 1.0, 1.5, 2.0)
    }


def test_nothing_is_trained_twice(config, trained):
    first = evaluate(config)
    trained.clear()
    assert evaluate(config) == first
    assert trained == []
    more = evaluate(replace(config, seeds=[0, 1, 2, 3])).tasks[0]
    assert {plan.seed for plan in trained} == {3}
    assert more.saved("twice", "adamw").seeds[:3] == first.tasks[0].saved("twice", "adamw").seeds


def test_a_new_arm_and_a_new_task_train_what_is_new(config, trained, register, short):
    evaluate(replace(config, arms=["twin"]))
    trained.clear()
    evaluate(replace(config, arms=["twin", "linefit"]))
    assert {plan.arm.name for plan in trained} == {"linefit"}
    trained.clear()
    register([short, replace(short, name="other")])
    evaluation = evaluate(replace(config, tasks=["short", "other"], arms=["twin", "linefit"]))
    assert {plan.task.name for plan in trained} == {"other"}
    assert [task.task for task in evaluation.tasks] == ["short", "other"]


def test_every_task_is_written_when_it_is_finished(config, register, short, tmp_path, monkeypatch):
    register([short, replace(short, name="other")])
    score = Task.held_out_loss

    def fail(task, model, data, split):
        if task.name == "other":
            raise KeyboardInterrupt
        return score(task, model, data, split)

    monkeypatch.setattr(Task, "held_out_loss", fail)
    with pytest.raises(KeyboardInterrupt):
        evaluate(replace(config, tasks=["short", "other"], arms=["twin"]))
    assert [task.task for task in read_evaluation(tmp_path / "out" / "evaluation.json").tasks] == ["short"]


def test_compare_tunes_nothing(quick, trained):
    result = compare(quick).tasks[0]
    assert {(plan.split, plan.seed, plan.lr, plan.curve) for plan in trained} == {("test", 0, 0.01, "averaged")}
    assert {arm.name: arm.tuned.setting.option for arm in result.arms} == {"adamw": None, "null": 1.0, "linefit": 1.0}
    assert result.rival == "adamw"


def test_compare_with_other_numbers(quick, trained):
    result = compare(replace(quick, lr=0.02, period=8, total_steps=32)).tasks[0]
    assert (result.steps, result.period, result.budgets) == (32, 8, (8, 16, 32))
    assert {plan.lr for plan in trained} == {0.02}
    assert {plan.steps for plan in trained if plan.arm.name == "adamw"} == {64}
    assert result.arm("null").jumps == (8, 16, 24)


def test_compare_survives_a_diverged_training(quick, tmp_path):
    evaluation = compare(replace(quick, lr=1e30))
    assert format_evaluation(read_evaluation(tmp_path / "out" / "evaluation.json")) == format_evaluation(evaluation)
    assert evaluation.tasks[0].arm("adamw").losses[16] == pytest.approx([math.nan], nan_ok=True)


def test_seconds_are_measured_when_asked(quick):
    assert all(arm.seconds is None for arm in compare(quick).tasks[0].arms)
    assert all(arm.seconds.step > 0 for arm in compare(replace(quick, seconds=True)).tasks[0].arms)


def test_workers_find_what_one_finds(tmp_path):
    """Of registered things: another process does not see this test's."""
    pytest.importorskip("sklearn")
    one = CompareConfig(
        task="digits_mlp",
        arms=["linefit"],
        seeds=[0],
        total_steps=20,
        period=5,
        threads=1,
        out=str(tmp_path / "out"),
        store=str(tmp_path / "one"),
    )
    alone = compare(one)
    shared = compare(replace(one, workers=2, store=str(tmp_path / "two")))
    assert [task.arms for task in shared.tasks] == [task.arms for task in alone.tasks]
    names = [{path.relative_to(tmp_path / n) for path in (tmp_path / n).rglob("*.json")} for n in ("one", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 4


def test_names_that_clash(config, tmp_path, register, short):
    register([short], list(registry().arms().values()))
    message = (
        "arms: 'linefit' and 'adamw+linefit' are both called 'linefit', and the tables could not tell them apart. "
        "Leave one out"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        evaluate(replace(config, arms=["linefit", "adamw+linefit"]))
    assert not (tmp_path / "out").exists()


def test_seeds_in_both(config, tmp_path):
    message = (
        "tuning_seeds: must be none of seeds, or settings are chosen on what they are judged by; got [1, 2] in both"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        evaluate(replace(config, tuning_seeds=[2, 100, 1]))
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_or_arm_is_told_before_any_training(config, trained):
    with pytest.raises(ConfigError, match=r"^no task is called 'shrot'\. Did you mean 'short'\?"):
        evaluate(replace(config, tasks=["short", "shrot"]))
    with pytest.raises(ConfigError, match=r"^no arm is called 'twni'\. Did you mean 'twin'\?"):
        evaluate(replace(config, arms=["twin", "twni"]))
    assert trained == []


def test_adamw_is_always_there_and_once(config):
    assert evaluate(replace(config, arms=["twin", "adamw"])).arms == ("adamw", "twin")
