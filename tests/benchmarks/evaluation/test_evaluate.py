"""An evaluation end to end, on tiny tasks registered here: what is trained, what is kept, what is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hand_made_cards import make_card

from ninokit.benchmarks.evaluation import processes
from ninokit.benchmarks.evaluation import runs as runs_module
from ninokit.benchmarks.evaluation.evaluate import evaluate
from ninokit.benchmarks.evaluation.report import format_evaluation
from ninokit.benchmarks.evaluation.results import read_evaluation
from ninokit.benchmarks.evaluation.settings import EvaluateConfig
from ninokit.errors import CheckpointError, ConfigError, DatasetError
from ninokit.nowcasters import Wnn
from ninokit.zoo import TrainingTask, read_entry, write_entry
from ninokit.zoo.card import read_card

pytest.importorskip("matplotlib")


@pytest.fixture
def config(tmp_path, loads) -> EvaluateConfig:
    return EvaluateConfig(
        tasks=["tiny"], against=[], seeds=[3], lr_factors=[], tuning_seeds=[7], out=str(tmp_path / "made" / "here")
    )


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """The runs that are really trained, in order."""
    done: list[str] = []
    train = runs_module.TrainingPlan.train

    def noted(plan, data):
        done.append(str(plan.file.with_suffix("")))
        return train(plan, data)

    monkeypatch.setattr(runs_module.TrainingPlan, "train", noted)
    return done


@pytest.fixture
def entry(tmp_path) -> Path:
    """An entry of the zoo, trained on ``tiny``."""
    torch.manual_seed(0)
    card = make_card(trained_on=[TrainingTask(task="TINY")], measurements=[])
    write_entry(tmp_path / "entry", Wnn(hidden=8, context=3, max_horizon=7), card)
    return tmp_path / "entry"


def test_every_method_trains_every_task_over_the_same_seeds(config, trained, loads):
    config.tasks, config.seeds, config.lr_factors = ["tiny", "tinier"], [3, 4], [10]
    config.stop_at_target = False
    evaluation = evaluate("linefit", config)
    assert [task.task for task in evaluation.tasks] == ["tiny", "tinier"]
    for task in evaluation.tasks:
        assert [method.name for method in task.methods] == ["AdamW", "AdamW tuned", "linefit"]
        assert [trial.lr for trial in task.trials] == [0.01, 0.1]
        assert task.seeds == (3, 4)
        assert task.method("linefit").lr == task.method("AdamW").lr == 0.01
    assert len(trained) == len(set(trained))
    assert [name for name in trained if name.startswith("tiny/")][:4] == [
        *("tiny/AdamW-lr0.01-seed3", "tiny/AdamW-lr0.01-seed4"),
        *("tiny/AdamW-lr0.01-seed7", "tiny/AdamW-lr0.1-seed7"),
    ]
    assert loads == ["tiny", "tinier"] * 2  # each once before all runs


def test_what_is_written(config):
    config.seeds = [3, 4]
    evaluation = evaluate("linefit", config)
    out = Path(config.out)
    assert sorted(path.name for path in out.iterdir()) == [
        *("evaluation.json", "evaluation.md", "runs", "savings.png", "tiny.png"),
    ]
    assert read_evaluation(out / "evaluation.json") == evaluation
    assert (out / "evaluation.md").read_text(encoding="utf-8") == format_evaluation(evaluation)
    assert min((out / name).stat().st_size for name in ("savings.png", "tiny.png")) > 10_000
    assert evaluation.environment["device"] == "cpu"
    assert evaluation.settings["seeds"] == [3, 4]


def test_the_same_command_again_trains_nothing_and_finds_the_same(config, trained, loads):
    first = evaluate("linefit", config)
    assert trained == ["tiny/AdamW-lr0.01-seed3", "tiny/linefit-lr0.01-seed3"]
    assert evaluate("linefit", config) == first
    assert len(trained) == 2
    assert loads == ["tiny"] * 2


def test_what_can_not_be_is_said_before_the_training(config, tiny, trained, monkeypatch):
    config.tasks = ["tiny", "fm16"]
    with pytest.raises(DatasetError, match=r"^task 'fm16' reads its data from a folder and none was given"):
        evaluate("linefit", config)
    tasks = {"tiny": tiny, "fast": replace(tiny, name="fast", period=3)}
    monkeypatch.setattr("ninokit.benchmarks.evaluation.evaluate.find_task", tasks.get)
    config.tasks = ["tiny", "fast"]
    with pytest.raises(ConfigError, match=r"^period: expected at least 5 steps"):
        evaluate("linefit", config)
    assert trained == []


def test_a_nowcaster_more_shares_the_baselines(config, trained, entry):
    evaluate("linefit", config)
    trained.clear()
    config.against = [f"local-dir:{entry}"]
    evaluation = evaluate("linefit", config)
    assert trained == ["tiny/wnn_h8.test-lr0.01-seed3"]
    assert [method.name for method in evaluation.tasks[0].methods] == ["AdamW", "linefit", "wnn_h8.test"]


def test_an_interrupted_evaluation_goes_on(config, trained, monkeypatch):
    config.seeds = [3, 4]
    train = runs_module.TrainingPlan.train

    def failing(plan, data):
        if len(trained) == 3:
            raise RuntimeError("power cut")
        return train(plan, data)

    monkeypatch.setattr(runs_module.TrainingPlan, "train", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        evaluate("linefit", config)
    monkeypatch.setattr(runs_module.TrainingPlan, "train", train)
    evaluate("linefit", config)
    assert trained == [
        *("tiny/AdamW-lr0.01-seed3", "tiny/AdamW-lr0.01-seed4"),
        *("tiny/linefit-lr0.01-seed3", "tiny/linefit-lr0.01-seed4"),
    ]


def test_processes_find_what_one_finds(tmp_path, trained, entry):
    """With a learning rate that other runs decide."""

    def steps(workers: int) -> list[tuple[str, float, list[int]]]:
        config = EvaluateConfig(
            tasks=["digits_mlp"],
            against=[f"local-dir:{entry}"],
            seeds=[3, 4],
            lr_factors=[4],
            tuning_seeds=[7],
            max_steps=30,
            workers=workers,
            threads=1,
            out=str(tmp_path / str(workers)),
        )
        (task,) = evaluate("linefit", config).tasks
        return [(method.name, method.lr, [run.steps for run in method.runs]) for method in task.methods]

    side_by_side = steps(2)
    assert not trained  # here
    assert side_by_side == steps(1)
    (_, usual, _), (_, tuned, _), *_ = side_by_side
    assert tuned == 4 * usual
    one, two = ({path.name: _scores(path) for path in (tmp_path / name / "runs").rglob("*.json")} for name in "12")
    assert one == two
    assert len(one) == 10


def _scores(path: Path) -> list[float]:
    return [point["score"] for point in json.loads(path.read_text())["run"]["points"]]


def test_processes_train_nothing_that_is_there(config, monkeypatch):
    evaluate("linefit", config)
    config.workers = 2
    monkeypatch.setattr(processes, "_train", None)
    assert evaluate("linefit", config).tasks[0].methods[0].runs[0].steps == 15


def test_processes_train_nothing_beside_runs_of_other_settings(config, monkeypatch):
    evaluate("linefit", config)
    config.workers, config.max_steps, config.seeds = 2, 20, [3, 4]
    monkeypatch.setattr(processes, "_train", None)
    with pytest.raises(ConfigError, match=r"this run was trained with max_steps=None, now 20 is asked for\."):
        evaluate("linefit", config)


def test_after_a_failure_no_process_takes_another_run(tmp_path):
    """The first task's data is missing; of the second, which has it, no run is begun after those under way."""
    config = EvaluateConfig(
        tasks=["fm16", "digits_mlp"],
        against=[],
        lr_factors=[],
        seeds=[1, 2, 3, 4, 5, 6],
        max_steps=1,
        data_root=str(tmp_path),
        out=str(tmp_path / "out"),
        workers=2,
        threads=1,
    )
    with pytest.raises(DatasetError, match=r"^task 'fm16': "):
        evaluate("linefit", config)
    assert not list((tmp_path / "out").rglob("digits_mlp/*.json"))


def test_a_process_that_fails_says_why(tmp_path):
    config = EvaluateConfig(tasks=["fm16"], against=[], data_root=str(tmp_path), out=str(tmp_path / "out"), workers=2)
    with pytest.raises(DatasetError, match=r"^task 'fm16': "):
        evaluate("linefit", config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "ends", "cost"),
    [
        ({}, [15], (15, True)),
        ({"stop_at_target": False}, [15, 30, 40], (15, True)),
        ({"stop_at_target": False, "max_steps": 20}, [15, 20], (15, True)),
        ({"max_steps": 1}, [1], (1, False)),
    ],
)
def test_runs_end_at_the_target_or_at_the_cap(config, settings, ends, cost):
    for name, value in settings.items():
        setattr(config, name, value)
    evaluation = evaluate("linefit", config)
    for method in evaluation.tasks[0].methods:
        document = json.loads((Path(config.out) / f"runs/tiny/{method.name}-lr0.01-seed3.json").read_text())
        assert [point["step"] for point in document["run"]["points"]] == ends
        assert [(run.steps, run.reached) for run in method.runs] == [cost]


def test_a_tuned_rate_that_is_the_tasks_own_costs_no_runs(config, trained):
    config.lr_factors = [1e-6]
    evaluation = evaluate("linefit", config)
    own, tuned, _ = evaluation.tasks[0].methods
    assert tuned.lr == own.lr == 0.01
    assert tuned.runs == own.runs
    assert trained == [
        *("tiny/AdamW-lr0.01-seed3", "tiny/AdamW-lr1e-08-seed7", "tiny/AdamW-lr0.01-seed7"),
        "tiny/linefit-lr0.01-seed3",
    ]


def test_the_card_has_what_was_measured(config, entry):
    config.tasks, config.against, config.lr_factors = ["tiny", "tinier"], ["linefit"], [2]
    evaluation = evaluate(f"local-dir:{entry}", config)
    card = read_card(entry / "card.yaml")
    assert [(row.task, row.distribution) for row in card.measurements] == [("tiny", "in"), ("tinier", "out")]
    for row, task in zip(card.measurements, evaluation.tasks, strict=True):
        (seed,) = row.seeds
        tuned = task.method("AdamW tuned")
        assert row.baseline == "AdamW, learning rate 0.01"
        assert seed.baseline == task.method("AdamW").runs[0]
        assert seed.nowcasting == task.method("wnn_h8.test").runs[0]
        assert seed.others == {
            f"AdamW tuned, learning rate {tuned.lr:g}": tuned.runs[0],
            "linefit": task.method("linefit").runs[0],
        }
    read_entry(entry)


def test_measured_again_the_row_is_replaced(config, entry):
    evaluate(f"local-dir:{entry}", config)
    config.seeds = [5]
    evaluate(f"local-dir:{entry}", config)
    assert [[seed.seed for seed in row.seeds] for row in read_card(entry / "card.yaml").measurements] == [[5]]


def test_a_card_gets_no_runs_that_were_cut_short(config, entry, caplog):
    before = (entry / "card.yaml").read_bytes()
    config.max_steps = 20
    evaluate(f"local-dir:{entry}", config)
    assert (entry / "card.yaml").read_bytes() == before
    assert caplog.messages == [
        f"{entry / 'card.yaml'}: left as it is, as runs of max_steps=20 say little; leave it out"
    ]


def test_a_card_that_can_not_be_written(config, entry, caplog, monkeypatch):
    def refuse(path, measured):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ninokit.benchmarks.evaluation.evaluate.add_measurements", refuse)
    evaluation = evaluate(f"local-dir:{entry}", config)
    assert caplog.messages == [
        f"{entry / 'card.yaml'}: can't be written (Permission denied); what was measured is in {config.out} alone"
    ]
    assert read_evaluation(Path(config.out) / "evaluation.json") == evaluation


def test_the_card_is_left_alone_where_asked_and_those_compared_with_always(config, entry):
    before = (entry / "card.yaml").read_bytes()
    config.write_card = False
    evaluate(f"local-dir:{entry}", config)
    config.write_card, config.against = True, [f"local-dir:{entry}"]
    evaluate("linefit", config)
    assert (entry / "card.yaml").read_bytes() == before


def test_runs_of_other_settings_are_not_mixed(config):
    evaluate("linefit", config)
    config.max_steps = 20
    with pytest.raises(ConfigError) as caught:
        evaluate("linefit", config)
    path = Path(config.out) / "runs" / "tiny" / "AdamW-lr0.01-seed3.json"
    assert str(caught.value) == (
        f"{path}: this run was trained with max_steps=None, now 20 is asked for. Choose another folder with out=…, or "
        "remove the file"
    )


def test_runs_of_other_weights_are_not_mixed(config, entry, tmp_path):
    evaluate(f"local-dir:{entry}", config)
    write_entry(tmp_path / "again", Wnn(hidden=8, context=3, max_horizon=7), make_card())
    with pytest.raises(
        ConfigError, match=r"wnn_h8\.test-lr0\.01-seed3\.json: this run was trained with weights_sha256="
    ):
        evaluate(f"local-dir:{tmp_path / 'again'}", config)


def test_a_file_that_is_no_run_is_named(config):
    evaluate("linefit", config)
    path = Path(config.out) / "runs" / "tiny" / "linefit-lr0.01-seed3.json"
    path.write_text("{}")
    expected = "expected a run of an evaluation; got KeyError: 'settings'. Remove the file, and it is trained anew"
    with pytest.raises(ConfigError) as caught:
        evaluate("linefit", config)
    assert str(caught.value) == f"{path}: {expected}"


def test_seeds_that_the_rate_is_chosen_on_are_not_compared(config, trained):
    config.tuning_seeds, config.lr_factors = [9, 3], [2]
    with pytest.raises(ConfigError) as caught:
        evaluate("linefit", config)
    assert str(caught.value) == (
        "tuning_seeds: must be none of seeds, or the learning rate is chosen on what it is judged by; got [3] in both"
    )
    assert trained == []


def test_two_of_one_name_are_refused(config, entry):
    twin = entry.parent / "twin"
    write_entry(twin, Wnn(hidden=8, context=3, max_horizon=7), read_card(entry / "card.yaml"))
    config.against = [f"local-dir:{twin}"]
    with pytest.raises(ConfigError) as caught:
        evaluate(f"local-dir:{entry}", config)
    assert str(caught.value) == (
        f"nowcaster 'local-dir:{twin}': another method is called 'wnn_h8.test' too, and the tables could not tell them "
        "apart. Leave one out, or rename its file or its entry"
    )


def test_one_that_stands_in_against_too_is_evaluated_once(config, entry):
    """As with the default of `against` and with the recipes, in which well-known nowcasters stand."""
    twin = entry.parent / "other spelling"
    shutil.copytree(entry, twin)
    config.against = ["linefit", f"local-dir:{entry}", f"local-dir:{twin}", "linefit"]
    evaluation = evaluate(f"local-dir:{entry}", config)
    assert [method.name for method in evaluation.tasks[0].methods] == ["AdamW", "wnn_h8.test", "linefit"]
    assert {row.task for row in read_card(entry / "card.yaml").measurements} == {"tiny"}
    assert read_card(twin / "card.yaml").measurements == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tasks": ["tiny", "tinny"]}, ConfigError, "no task is called 'tinny'"),
        ({"against": ["no_such_family"]}, CheckpointError, "no_such_family"),
        ({"device": "cuda:99"}, ConfigError, "device 'cuda:99'"),
    ],
)
def test_what_is_not_there_is_noticed_before_any_training(config, trained, change, error, message):
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(error, match=message):
        evaluate("linefit", config)
    assert trained == []
    assert not Path(config.out).exists()
