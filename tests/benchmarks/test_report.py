"""Runs survive the round trip through their file, and a file is whole at every moment."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from ninokit.benchmarks import report
from ninokit.benchmarks.report import (
    describe_environment,
    describe_hardware,
    run_from_json,
    write_json,
    write_text,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.json"


def test_round_trip(make_run, path):
    run = make_run("nowcasting", 0, [0.1, 0.9, 0.9, 0.9], refused=True)
    write_json(asdict(run), path)
    assert run_from_json(json.loads(path.read_text())) == run


def test_the_file_holds_the_numbers_for_other_readers(make_run, path):
    write_json(asdict(make_run("nowcasting", 0, [0.1, 0.9], refused=True)), path)
    document = json.loads(path.read_text())
    assert document["points"][1] == {"step": 200, "seconds": 100.0, "train_loss": 0.01, "score": 0.9}
    assert document["events"][1] == {
        "step": 200,
        "horizon": 3,
        "accepted": False,
        "reason": "bad",
        "seconds": 0.5,
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["train_loss", "score"])
def test_a_number_that_diverged_is_null_in_the_file_and_nan_when_read(make_run, path, name, number):
    run = make_run("baseline", 0, [0.1, 0.5, 0.9])
    first, *others = run.points
    write_json(asdict(replace(run, points=(replace(first, **{name: number}), *others))), path)
    document = json.loads(path.read_text())
    assert document["points"][0][name] is None
    read = run_from_json(document).points
    assert math.isnan(getattr(read[0], name))
    assert read[1:] == run.points[1:]


def test_a_write_that_fails_leaves_the_earlier_file(path):
    write_json({"a": 1}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    with pytest.raises(UnicodeEncodeError):  # fails in the middle of the writing
        write_text(path, "half of it" * 100_000 + "\ud800")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("device", "hardware"), [("cpu", "a processor, threads 2"), ("NVIDIA H200", "NVIDIA H200, threads 2")]
)
def test_hardware(device, hardware):
    assert describe_hardware({"device": device, "processor": "a processor", "threads": 2}) == hardware


def test_environment():
    environment = describe_environment("cpu")
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert environment["device"] == "cpu"
    assert environment["processor"]
    assert set(environment) == {"python", "torch", "ninokit", "processor", "threads", "device", "commit"}


def _git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with the reporting module's file in it, not yet added."""
    copy = tmp_path / "report.py"
    copy.write_text("one\n")
    monkeypatch.setattr(report, "__file__", str(copy))
    _git(tmp_path, "init", "-q")
    (tmp_path / "other").write_text("other\n")
    _git(tmp_path, "add", "other")
    _git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_commit_of_a_checkout(checkout):
    _git(checkout, "add", "report.py")
    _git(checkout, "commit", "-qm", "second")
    commit = _git(checkout, "rev-parse", "HEAD")
    assert describe_environment("cpu")["commit"] == commit
    (checkout / "report.py").write_text("two\n")
    assert describe_environment("cpu")["commit"] == f"{commit}-dirty"


def test_another_repository_around_the_installation_is_not_its_commit(checkout):
    assert describe_environment("cpu")["commit"] is None


def test_no_commit_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert describe_environment("cpu")["commit"] is None
