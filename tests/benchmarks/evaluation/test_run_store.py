"""A store of runs: each is trained once, and taken for no other."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from ninokit.benchmarks.arms.null import NULL
from ninokit.benchmarks.evaluation import store as module
from ninokit.benchmarks.evaluation.run import ArmRun
from ninokit.benchmarks.evaluation.store import RunStore
from ninokit.benchmarks.report import describe_environment
from ninokit.errors import ConfigError


@pytest.fixture
def store(tmp_path):
    return RunStore(str(tmp_path / "runs"))


def load(plan):
    return lambda: plan.task.load_data(None)


def no_data():
    raise AssertionError("no data is needed")


def test_a_run_is_trained_once_and_found_again(store, plan, trained):
    assert store.find(plan) is None
    assert not store.folder.exists()
    store.train(plan, load(plan))
    before = (store.folder / plan.file).read_bytes()
    store.train(plan, no_data)
    found = RunStore(str(store.folder)).find(plan)
    assert trained == [plan]
    assert list(found.run.averaged) == list(range(1, 41))
    assert found.environment == describe_environment("cpu")
    assert (store.folder / plan.file).read_bytes() == before
    assert [path.name for path in store.folder.rglob("*.*")] == [plan.file.name]


def test_what_was_measured_is_what_is_found(store, plan, monkeypatch):
    runs, train = [], module.train_arm
    monkeypatch.setattr(module, "train_arm", lambda *args, **kwargs: runs.append(train(*args, **kwargs)) or runs[-1])
    plan = replace(plan, arm=NULL, option=1.0)
    store.train(plan, load(plan))
    assert store.find(plan).run == runs[0]
    assert len(runs[0].events) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": 0.2}, "weight_decay=0.1, now 0.2 is asked for"),
        ({"batch_size": 8}, "batch_size=16, now 8 is asked for"),
    ],
)
def test_a_run_of_other_settings_is_refused(store, plan, change, message):
    plan = replace(plan, arm=NULL, curve=None)
    store.train(plan, load(plan))
    other = replace(plan, task=replace(plan.task, **change))
    path = store.folder / plan.file
    assert other.file == plan.file
    expected = f"{path}: this run was trained with {message}. Choose another folder with store=…, or remove the file"
    for act in (lambda: store.find(other), lambda: store.train(other, no_data)):
        with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
            act()


def test_other_weights_are_refused(store, plan):
    """Of one beginning, which is all that the name of the file has."""
    plan = replace(plan, curve=None, arm=replace(plan.arm, weights_sha256="ab" * 8))
    store.train(plan, load(plan))
    other = replace(plan, arm=replace(plan.arm, weights_sha256="ab" * 4 + "cd"))
    with pytest.raises(ConfigError, match="this run was trained with weights_sha256='abababababababab', now "):
        store.find(other)


RUN = {"averaged": {"40": 1.0}, "raw": {"40": 1.0}, "events": []}


@pytest.mark.parametrize(
    ("content", "reason"),  # the words are Python's
    [
        ("", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("{}", "KeyError: 'settings'"),
        ("[]", "TypeError: list indices must be integers or slices, not str"),
        ('{"settings": {}, "run": {}}', "KeyError: 'events'"),
        (
            json.dumps({"settings": {}, "environment": {}, "run": RUN | {"raw": []}}),
            "AttributeError: 'list' object has no attribute 'items'",
        ),
        (
            json.dumps({"settings": 5, "environment": {}, "run": RUN}),
            "TypeError: 'int' object is not iterable",
        ),
    ],
)
def test_a_damaged_file(store, plan, content, reason):
    path = store.folder / plan.file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    expected = f"{path}: expected a run of an evaluation; got {reason}. Remove the file, and it is trained anew"
    with pytest.raises(ConfigError) as caught:
        store.find(plan)
    assert str(caught.value) == expected


def test_a_loss_that_diverged_is_nan_again(store, plan, monkeypatch):
    run = ArmRun({1: 2.0, 2: math.nan}, {2: math.inf})
    monkeypatch.setattr("ninokit.benchmarks.evaluation.store.train_arm", lambda *args, **kwargs: run)
    store.train(plan, lambda: None)
    found = store.find(plan).run
    assert (found.averaged[1], list(found.averaged), list(found.raw)) == (2.0, [1, 2], [2])
    assert math.isnan(found.averaged[2])
    assert math.isnan(found.raw[2])
    assert "NaN" not in (store.folder / plan.file).read_text()


def test_a_run_that_fails_leaves_nothing(store, plan):
    with pytest.raises(ZeroDivisionError):
        store.train(plan, lambda: 1 / 0)
    assert not store.folder.exists()


def test_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "cache"))
    assert RunStore(None).folder == tmp_path / "cache" / "runs"
