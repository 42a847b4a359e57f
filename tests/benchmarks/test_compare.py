"""A comparison end to end, on a tiny task registered here."""

from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ninokit import hookimpl
from ninokit.benchmarks import compare as compare_module
from ninokit.benchmarks import training
from ninokit.benchmarks.compare import compare, configured_task
from ninokit.benchmarks.report import read_results
from ninokit.configuration import CompareConfig
from ninokit.errors import CheckpointError, ConfigError
from ninokit.plugins import Registry, registry

pytest.importorskip("matplotlib")


@pytest.fixture
def _registered(tiny, monkeypatch):
    """The tiny task, offered by a plugin, in a registry that only the comparison sees."""
    ours = Registry.discover()
    plugin = types.SimpleNamespace(ninokit_tasks=hookimpl(lambda: [tiny]))
    plugin.ninokit_tasks.__name__ = "ninokit_tasks"
    ours.register(plugin, "tiny")
    monkeypatch.setattr(compare_module, "registry", lambda: ours)


@pytest.fixture
def config(tmp_path, _registered) -> CompareConfig:
    return CompareConfig(task="tiny", seeds=[3], out=str(tmp_path / "made" / "here"))


def test_the_tasks_example_inputs_reach_the_encoder(tiny, config, monkeypatch):
    found = []

    def attach(*arguments, **settings):
        found.append(settings["example_inputs"])
        return attach_to(*arguments, **settings)

    attach_to = training.attach_to
    monkeypatch.setattr(training, "attach_to", attach)
    inputs = torch.zeros(2, 2)
    monkeypatch.setattr(compare_module, "configured_task", lambda _: replace(tiny, example_inputs=lambda: inputs))
    compare(config)
    before, run = found
    assert before is run is inputs


def test_end_to_end(config):
    config.seeds = [3, 4]
    results = compare(config)
    assert [(run.method, run.seed) for run in results.runs] == [
        ("baseline", 3),
        ("nowcasting", 3),
        ("baseline", 4),
        ("nowcasting", 4),
    ]
    assert [[point.step for point in run.points] for run in results.runs] == [[15, 30, 40]] * 4
    assert [[event.step for event in run.events] for run in results.runs] == [[], [10, 20, 30]] * 2
    assert all(event.accepted for run in results.runs for event in run.events)
    out = Path(config.out)
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "results.json", "summary.md"]
    assert read_results(out / "results.json") == results
    assert "| median |" in (out / "summary.md").read_text()
    assert (out / "curves.png").stat().st_size > 20_000


def test_the_results_tell_the_settings_that_held(config):
    config.eval_every, config.target = 20, 0.5
    settings = compare(config).config
    assert settings["task"] == "tiny"
    assert (settings["eval_every"], settings["target"]) == (20, 0.5)
    assert (settings["metric"], settings["better"]) == ("test accuracy", "higher")
    assert (settings["period"], settings["total_steps"], settings["lr"]) == (10, 40, 0.01)


def test_every_override_reaches_the_task(config):
    config.total_steps, config.period, config.lr, config.eval_every, config.target = 31, 7, 0.5, 11, 0.25
    task = configured_task(config)
    assert (task.total_steps, task.period, task.lr, task.eval_every, task.target) == (31, 7, 0.5, 11, 0.25)
    runs = compare(config).runs
    assert [point.step for point in runs[0].points] == [11, 22, 31]
    assert [event.step for event in runs[1].events] == [7, 14, 21]


def test_batchnorms_are_recalibrated_where_asked(config, monkeypatch):
    seen = []

    def attach(*arguments, recalibrate_batchnorm, **settings):
        seen.append(recalibrate_batchnorm)
        return attach_to(*arguments, recalibrate_batchnorm=recalibrate_batchnorm, **settings)

    attach_to = training.attach_to
    monkeypatch.setattr(training, "attach_to", attach)
    compare(config)
    config.recalibrate_batchnorm = 7
    assert compare(config).config["recalibrate_batchnorm"] == 7
    assert seen == [0, 0, 7, 7]  # each once before all runs


def test_a_target_beyond_the_score_is_refused(config):
    config.target = 89.5
    with pytest.raises(ConfigError) as caught:
        compare(config)
    assert str(caught.value) == "task 'tiny': target must be a test accuracy above 0 and at most 1; got 89.5"


def test_what_can_not_be_attached_is_said_before_the_training(config, monkeypatch):
    config.period = 3
    monkeypatch.setattr(compare_module, "train", lambda *arguments, **settings: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=r"^period: expected at least 5 steps"):
        compare(config)
    assert not Path(config.out).exists()


def test_nothing_finished_is_lost_when_a_run_fails(config, monkeypatch):
    config.seeds = [3, 4]
    done: list[str] = []

    def failing(*args, **kwargs):
        if len(done) == 3:
            raise RuntimeError("power cut")
        done.append("run")
        return train(*args, **kwargs)

    train = compare_module.train
    monkeypatch.setattr(compare_module, "train", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        compare(config)
    kept = read_results(Path(config.out) / "results.json")
    assert [(run.method, run.seed) for run in kept.runs] == [
        ("baseline", 3),
        ("nowcasting", 3),
        ("baseline", 4),
    ]


def test_threads_are_set_for_the_comparison_only(config):
    before = torch.get_num_threads()
    config.threads = before + 1
    assert compare(config).environment["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_an_unknown_task_names_the_known_ones(config):
    config.task = "tinny"
    with pytest.raises(ConfigError, match=r"^no task is called 'tinny'\. Did you mean 'tiny'\? Known tasks: .*fm16"):
        compare(config)


def test_a_nowcaster_that_is_not_there_is_noticed_before_any_training(config, monkeypatch):
    monkeypatch.setattr(compare_module, "train", lambda *_, **__: pytest.fail("trained"))
    config.nowcaster = "no_such_family"
    with pytest.raises(CheckpointError, match="no_such_family"):
        compare(config)


def test_a_device_that_is_not_there(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config.device = "cuda:1"
    expected = r"^device 'cuda:1': torch sees 1 CUDA devices here\. Set device=cpu$"
    with pytest.raises(ConfigError, match=expected):
        compare(config)


def test_the_built_in_tasks_are_found_through_their_entry_point():
    assert set(registry().tasks()) >= {
        *("mnist1d_mlp", "mnist1d_cnn", "digits_mlp", "fm16", "c10_16", "mnist_vit", "shakespeare_gpt2"),
    }
