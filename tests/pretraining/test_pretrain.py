"""From a store to an entry of the zoo, in one go and in two."""

from __future__ import annotations

import csv
import logging
import math
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ninokit.cli import main
from ninokit.configuration import load_config
from ninokit.errors import CheckpointError, ConfigError, ZooError
from ninokit.nowcasters import Nino, Wnn
from ninokit.pretraining import TrajectoryStore
from ninokit.pretraining.curves import Point, write_curves
from ninokit.pretraining.meta_training import MetaTraining
from ninokit.pretraining.pretrain import pretrain
from ninokit.pretraining.pretrain_config import PretrainConfig
from ninokit.pretraining.validation import Scores
from ninokit.zoo import Entry, read_entry

pytest.importorskip("matplotlib")


@pytest.fixture
def config(tiny_store, tmp_path) -> PretrainConfig:
    return PretrainConfig(
        trajectories=str(tiny_store.path),
        out=str(tmp_path / "out"),
        hidden=8,
        context=3,
        max_horizon=7,
        spacing=[5, 40],
        validation_tasks=["convolutional"],
        steps=12,
        validate_every=6,
        warmup_steps=2,
        ema_decay=0.5,
        tasks_per_step=2,
    )


def weights(entry) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in read_entry(entry).parameters()])


def test_an_entry_with_its_card_and_curves(config, tmp_path):
    entry = pretrain(replace(config, family="wnn", name="wnn_tiny.test"), tmp_path / "recipe.yaml")
    assert entry == tmp_path / "out" / "wnn_tiny.test"
    nowcaster, card = read_entry(entry), Entry.open(entry).card
    assert type(nowcaster) is Wnn
    assert (nowcaster.context, nowcaster.max_horizon) == (3, 7)
    assert (card.family, card.arguments) == ("wnn", {"hidden": 8, "context": 3, "max_horizon": 7})
    assert (card.context, card.period, card.max_horizon, card.positions) == (3, 67, 7, None)
    (task,) = card.trained_on
    assert (task.task, task.trajectories, task.steps) == ("deep", 7, 59 * 5)
    assert card.training.recipe == str(tmp_path / "recipe.yaml")
    assert shlex.split(card.training.command) == [
        "ninokit", "pretrain", f"trajectories={tmp_path}/trajectories", f"out={tmp_path}/out", "name=wnn_tiny.test",
        "family=wnn", "hidden=8", "context=3", "max_horizon=7", "spacing=[5,40]", "validation_tasks=[convolutional]",
        "steps=12", "tasks_per_step=2", "warmup_steps=2", "ema_decay=0.5", "validate_every=6",
    ]  # fmt: skip
    assert card.training.seconds > 0
    assert card.measurements == []
    with (tmp_path / "out" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["6", "12"]
    assert list(rows[0])[5:] == [
        f"{part}: {method}"
        for part in ("unseen seeds", "unseen tasks")
        for method in ("nowcaster", "no change", "linefit")
    ]
    with (tmp_path / "out" / "horizons.csv").open() as file:
        assert [row["horizon"] for row in csv.DictReader(file)] == list("1234567")
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_on_the_card_asks_for_the_same_settings(config):
    card = Entry.open(pretrain(config)).card
    assert load_config(PretrainConfig, None, shlex.split(card.training.command)[2:]) == config
    assert card.training.config["spacing"] == [5, 40]


@pytest.mark.parametrize("family", ["nino", "wnn"])
def test_a_training_that_is_stopped_goes_on_bit_for_bit(config, tmp_path, monkeypatch, family):
    config = replace(config, family=family)
    whole = weights(pretrain(replace(config, out=str(tmp_path / "whole"))))
    step = MetaTraining.train_step

    def stopped(training, *arguments):
        if training.step == 8:  # two steps after the checkpoint
            raise KeyboardInterrupt
        return step(training, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(MetaTraining, "train_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config)
    assert torch.equal(weights(pretrain(config)), whole)
    first, second = ((tmp_path / out / "curves.csv").read_text().splitlines() for out in ("whole", "out"))
    seconds = 1  # the only column that differs
    for a, b in zip(first, second, strict=True):
        assert [x for i, x in enumerate(a.split(",")) if i != seconds] == [
            x for i, x in enumerate(b.split(",")) if i != seconds
        ]


def test_what_is_done_is_left_alone(config, monkeypatch):
    entry = pretrain(config)
    before = (entry / "card.yaml").stat().st_mtime_ns
    monkeypatch.setattr(MetaTraining, "train_step", lambda *arguments: pytest.fail("trained again"))
    assert pretrain(config) == entry
    assert (entry / "card.yaml").stat().st_mtime_ns == before


def test_an_entry_that_was_not_written_is_written_from_the_checkpoint(config, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("ninokit.pretraining.pretrain.write_entry", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(config)
    monkeypatch.setattr(MetaTraining, "train_step", lambda *arguments: pytest.fail("trained again"))
    assert type(read_entry(pretrain(config))) is Nino


def test_the_log_and_the_card_say_when_a_nowcaster_is_of_no_use(config, caplog):
    with caplog.at_level(logging.INFO, "ninokit.pretraining"):
        entry = pretrain(replace(config, lr=1e-12, validation_tasks=[]))
    start = "on unseen seeds the L1 distance, "
    failures = Entry.open(entry).card.known_failures
    assert failures
    assert all(failure.startswith(start) for failure in failures)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [f"step 12: {failure}" for failure in failures] == warnings[-len(failures) :]
    infos = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert any(info.startswith("step 6: L1 0.") and "no change 0." in info and "linefit 0." in info for info in infos)


def test_other_settings_do_not_go_on_from_a_checkpoint(config, tmp_path):
    pretrain(config)
    with pytest.raises(ConfigError) as caught:
        pretrain(replace(config, steps=20, lr=0.5))
    assert str(caught.value) == (
        f"{tmp_path}/out/checkpoint.pt: is the checkpoint of other settings: steps=20 (was 12), lr=0.5 (was 0.003). "
        f"Give the same settings to go on, or another out=… to start anew"
    )


def test_a_store_that_has_grown_does_not_go_on_from_a_checkpoint(config, tmp_path):
    pretrain(config)
    store = TrajectoryStore.create(config.trajectories)
    (deep,) = (found for found in store.cohorts() if found.description.task == "deep")
    cohort = store.add(replace(deep.description, seeds=(8,), hyperparameters=({"lr": 0.01},)))
    cohort.write(0, torch.randn(1, 60, cohort.description.num_parameters), torch.zeros(1, 60))
    with pytest.raises(ConfigError) as caught:
        pretrain(config)
    assert str(caught.value) == (
        f"{tmp_path}/out/checkpoint.pt: is the checkpoint of a training on other trajectories: 7 of 420 states "
        "(training), 1 of 60 states (unseen seeds), 3 of 180 states (unseen tasks); now they are 8 of 480 states "
        "(training), 1 of 60 states (unseen seeds), 3 of 180 states (unseen tasks). Take the store as it was, or "
        "another out=… to start anew"
    )


def test_a_training_goes_on_elsewhere(config, tmp_path, monkeypatch):
    pretrain(config)
    for folder in ("trajectories", "out"):
        (tmp_path / folder).rename(tmp_path / f"moved-{folder}")
    monkeypatch.setattr(MetaTraining, "train_step", lambda *arguments: pytest.fail("trained again"))
    moved = {"trajectories": str(tmp_path / "moved-trajectories"), "out": str(tmp_path / "moved-out")}
    pretrain(replace(config, **moved, threads=1, memory_gib=0.5))


def test_nothing_held_out(config, tmp_path):
    entry = pretrain(replace(config, validation_tasks=[], validation_share=0.0))
    assert type(read_entry(entry)) is Nino
    assert Entry.open(entry).card.known_failures == []
    rows = (tmp_path / "out" / "curves.csv").read_text().splitlines()
    assert rows[0] == "step,seconds,learning_rate,train_l1,skipped"
    assert len(rows) == 3


def test_a_network_that_diverged_early_is_left_out(config, caplog):
    store = TrajectoryStore.create(config.trajectories)
    (deep,) = (found for found in store.cohorts() if found.description.task == "deep")
    about = replace(deep.description, seeds=(8, 9), hyperparameters=({"lr": 0.01}, {"lr": 10.0}))
    states = torch.randn(2, 60, about.num_parameters)
    states[1, 3:] = torch.nan
    store.add(about).write(0, states, torch.zeros(2, 60))
    entry = pretrain(config)
    assert caplog.messages[0] == "task 'deep': the trajectories of the seeds [9] are too short for a slice; left out"
    assert Entry.open(entry).card.trained_on[0].trajectories == 9 - 1


def test_curves_of_a_nowcaster_whose_forecasts_are_not_finite(tmp_path):
    scores = {name: Scores(math.inf, (math.inf, math.nan)) for name in ("nowcaster", "no change", "linefit")}
    write_curves([Point(1, 1.0, 0.1, math.nan, 0, {"unseen seeds": scores})], tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_no_checkpoint(config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError) as caught:
        pretrain(config)
    assert str(caught.value) == (
        f"{tmp_path}/out/checkpoint.pt: is no checkpoint of a meta-training (UnpicklingError); remove it to start anew"
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"family": "wnn", "form": "dgl"}, ConfigError, "form: wnn has the forms ['blocks']; got 'dgl'"),
        (
            {"form": "dgl", "precision": "bfloat16"},
            ConfigError,
            "precision: only nino in form=blocks has a choice; got bfloat16 for nino in form=dgl. "
            "Set precision=float32",
        ),
        (
            {"family": "wnn", "precision": "tf32"},
            ConfigError,
            "precision: only nino in form=blocks has a choice; got tf32 for wnn in form=blocks. Set precision=float32",
        ),
        (
            {"weights_per_slice": 64},
            ConfigError,
            "weights_per_slice: only wnn looks at single weights; got 64 for nino. Leave it out",
        ),
        (
            {"device": "cuda:99"},
            ConfigError,
            f"device 'cuda:99': torch sees {torch.cuda.device_count()} CUDA devices here. Set device=cpu",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other(config, changes, error, message):
    with pytest.raises(error) as caught:
        pretrain(replace(config, **changes))
    assert str(caught.value) == message


def test_tasks_that_are_kept_for_judging_are_not_learnt_from(config, monkeypatch):
    monkeypatch.setattr(
        "ninokit.pretraining.pretrain.find_task", lambda name: SimpleNamespace(held_out=name == "convolutional")
    )
    with pytest.raises(ConfigError) as caught:
        pretrain(replace(config, validation_tasks=[]))
    assert str(caught.value) == (
        "task 'convolutional' is kept for judging nowcasters, and none must learn from it. Put it among the "
        "validation_tasks, or take another store"
    )


def test_a_name_that_is_none_is_found_before_the_training(config, monkeypatch):
    monkeypatch.setattr(MetaTraining, "train_step", lambda *arguments: pytest.fail("trained"))
    with pytest.raises(ZooError, match=r"^the entry 'Mine': name: .*, got 'Mine'$"):
        pretrain(replace(config, name="Mine"))


def test_few_weights_a_slice(config, monkeypatch):
    seen = []
    forward = Wnn.forward
    monkeypatch.setattr(Wnn, "forward", lambda wnn, states, kind: seen.append(len(kind)) or forward(wnn, states, kind))
    few = weights(pretrain(replace(config, family="wnn", weights_per_slice=5, out=f"{config.out}-few")))
    assert few.isfinite().all()
    assert 5 in seen  # in training
    assert max(seen) > 5  # in validation
    assert not torch.equal(few, weights(pretrain(replace(config, family="wnn", out=f"{config.out}-all"))))


def test_in_bfloat16(config):
    assert weights(pretrain(replace(config, precision="bfloat16"))).isfinite().all()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("family=linefit", "family must be nino or wnn; got 'linefit'"),
        ("spacing=[200,10]", "spacing must be two whole numbers, such as [10,200], from 1 up, in order; got [200, 10]"),
        ("validation_share=1", "validation_share must be a number of at least 0 and below 1; got 1"),
        ("context=1", "context must be a whole number, at least 2; got 1"),
        ("form=edges", "form must be blocks or dgl; got 'edges'"),
        ("precision=float16", "precision must be float32, tf32 or bfloat16; got 'float16'"),
    ],
)
def test_refused_settings(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(PretrainConfig, None, [override])
    assert str(caught.value) == f"the command line: {message}"


def test_the_command(config, tmp_path, capsys):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"trajectories: {config.trajectories}\nout: {config.out}\nfamily: wnn\nhidden: 4\ncontext: 3\nmax_horizon: 7\n"
        f"spacing: [5, 40]\nsteps: 100\n"
    )
    assert main(["pretrain", "--config", str(file), "steps=2"]) == 0
    entry = tmp_path / "out" / "wnn_h4.trained"
    assert capsys.readouterr().out == f"Written: the entry {entry}; beside it the checkpoint and the curves\n"
    assert Entry.open(entry).card.training.recipe == str(file)
    assert main(["pretrain", "trajectories=/nowhere"]) == 2
    assert "no store of trajectories is there" in capsys.readouterr().err
