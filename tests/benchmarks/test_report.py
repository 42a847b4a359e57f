"""Results survive the round trip through their file, and the file is whole at every moment."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from ninokit.benchmarks import report
from ninokit.benchmarks.report import (
    Results,
    describe_environment,
    format_summary,
    read_results,
    write_results,
    write_text,
)
from ninokit.errors import ConfigError


@pytest.fixture
def results(make_run) -> Results:
    runs = (
        make_run("baseline", 0, [0.1, 0.5, 0.9, 0.9]),
        make_run("nowcasting", 0, [0.1, 0.9, 0.9, 0.9], refused=True),
    )
    config = {"task": "tiny", "nowcaster": "linefit", "target": 0.8, "metric": "test accuracy", "better": "higher"}
    return Results(config, {"python": "3.x", "commit": None}, runs)


def test_round_trip(results, tmp_path):
    path = tmp_path / "results.json"
    write_results(results, path)
    assert read_results(path) == results


def test_the_file_holds_the_numbers_for_other_readers(results, tmp_path):
    path = tmp_path / "results.json"
    write_results(results, path)
    document = json.loads(path.read_text())
    assert document["runs"][0]["points"][2] == {
        "step": 300,
        "seconds": 150.0,
        "train_loss": 2.0 / 300,
        "score": 0.9,
    }
    assert document["runs"][1]["events"][1] == {
        "step": 200,
        "horizon": 3,
        "accepted": False,
        "reason": "bad",
        "seconds": 0.5,
    }
    assert document["summary"][0]["baseline_steps"] == {"value": 300, "reached": True}
    assert document["summary"][0]["steps_saved"]["share"] == pytest.approx(1 / 3)


def test_a_loss_that_diverged_is_null_in_the_file_and_nan_when_read(results, tmp_path):
    run = results.runs[0]
    diverged = replace(run, points=(replace(run.points[0], train_loss=math.inf), *run.points[1:]))
    path = tmp_path / "results.json"
    write_results(replace(results, runs=(diverged,)), path)
    assert json.loads(path.read_text())["runs"][0]["points"][0]["train_loss"] is None
    points = read_results(path).runs[0].points
    assert math.isnan(points[0].train_loss)
    assert points[1:] == run.points[1:]


def test_a_write_that_fails_leaves_the_earlier_file(results, tmp_path):
    path = tmp_path / "results.json"
    write_results(results, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_results(replace(results, config={**results.config, "task": object()}), path)
    with pytest.raises(UnicodeEncodeError):  # fails in the middle of the writing
        write_text(path, "half of it" * 100_000 + "\ud800")
    assert path.read_bytes() == before


def test_a_score_that_diverged_is_null_in_the_file_and_nan_when_read(results, tmp_path):
    run = results.runs[0]
    points = (*run.points[:-1], replace(run.points[-1], score=math.nan))
    path = tmp_path / "results.json"
    write_results(replace(results, runs=(replace(run, points=points),)), path)
    assert json.loads(path.read_text())["runs"][0]["points"][-1]["score"] is None
    read = read_results(path).runs[0].points
    assert math.isnan(read[-1].score)
    assert read[:-1] == run.points[:-1]


def test_a_loss_as_score_counts_downwards(results, tmp_path):
    losses = {**results.config, "metric": "validation loss (nats)", "better": "lower", "target": 0.5}
    write_results(replace(results, config=losses), tmp_path / "results.json")
    lines = format_summary(read_results(tmp_path / "results.json")).splitlines()
    assert lines[2] == "Steps and training seconds to a validation loss (nats) of 0.5:"
    assert lines[6].split(" | ")[1:3] == ["           100", "             100"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"config": {}, "environment": {}, "runs": [{}]}'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"results\.json: expected the results\.json of a comparison; got \w+"):
        read_results(path)


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


def test_summary_for_people(results):
    lines = format_summary(results).splitlines()
    assert lines[0] == "# tiny: AdamW with and without nowcasting by linefit"
    assert lines[2] == "Steps and training seconds to a test accuracy of 0.8:"
    assert lines[4].startswith("| seed | baseline steps")
    assert [cell.strip() for cell in lines[6].strip("|").split("|")] == [
        *("0", "300", "200", "33 %"),
        *("150.0", "100.0", "33 %"),
    ]
    assert lines[8] == "Nowcasts: 1 accepted, 1 refused, 0.75 s in all."
    assert lines[10] == "python 3.x."
