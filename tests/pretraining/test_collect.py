"""A collection end to end, against networks that are trained alone, and stopped in the middle."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock
from networks import TASKS, flat, train_alone
from torch import nn

from ninokit import hookimpl
from ninokit.benchmarks.tasks import finding
from ninokit.benchmarks.tasks.networks import mlp
from ninokit.cli import main
from ninokit.errors import ConfigError, DatasetError, StoreError
from ninokit.plugins import Registry
from ninokit.pretraining import TrajectoryStore, cohort, cohort_training
from ninokit.pretraining.collect import collect
from ninokit.pretraining.collect_config import CollectConfig
from ninokit.pretraining.stacked_training import StackedTraining


def noisy_network() -> nn.Module:
    """What a resumed run must get right: running statistics and dropout's random state."""
    return nn.Sequential(nn.Linear(17, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), mlp(8, 8, 3)).double()


NOISY = replace(TASKS["mlp"], name="noisy", build_model=noisy_network)
KEPT = replace(TASKS["mlp"], name="kept", held_out=True)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    ours = Registry.discover()
    plugin = types.SimpleNamespace(ninokit_tasks=hookimpl(lambda: [*TASKS.values(), NOISY, KEPT]))
    plugin.ninokit_tasks.__name__ = "ninokit_tasks"
    ours.register(plugin, "small")
    monkeypatch.setattr(finding, "registry", lambda: ours)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cohort, "_MOST_CHUNK_STATES", 2)


@pytest.fixture
def config(store_path) -> CollectConfig:
    return CollectConfig(tasks=["mlp"], networks=3, steps=40, every=10, out=str(store_path))


def contents(store: TrajectoryStore) -> dict[tuple[str, int], tuple]:
    return {
        (t.task, t.seed): (t.states(0, len(t.steps)).numpy().tobytes(), t.losses.tobytes(), t.score)
        for t in store.trajectories
    }


@pytest.mark.parametrize("name", ["mlp", "batchnorm_cnn", "gpt2"])
def test_trajectories_are_those_of_networks_that_are_trained_alone(config, name):
    config.tasks = [name]
    task = TASKS[name]
    found = collect(config).trajectories
    assert [(t.task, t.seed) for t in found] == [(name, 0), (name, 1), (name, 2)]
    for trajectory in found:
        assert trajectory.steps.tolist() == [0, 10, 20, 30, 40]
        for state, steps in enumerate(trajectory.steps):
            model, losses = train_alone(task, trajectory.seed, **trajectory.hyperparameters, steps=max(1, steps))
            mean = losses[0] if steps == 0 else np.mean(losses[-10:])
            assert trajectory.losses[state] == pytest.approx(mean, rel=1e-5)
            expected = flat(model if steps else _initial(task, trajectory.seed)).float()
            torch.testing.assert_close(trajectory.states(state, state + 1)[0], expected, rtol=1e-5, atol=1e-6)
        assert trajectory.score == task.evaluate(model, task.load_data(None))
        assert list(trajectory.parameters) == [(n, tuple(p.shape)) for n, p in model.named_parameters()]


def _initial(task, seed):
    torch.manual_seed(seed)
    return task.build_model()


def test_the_same_command_trains_nothing_again(config, store_path, monkeypatch):
    before = contents(collect(config))
    monkeypatch.setattr(StackedTraining, "step", lambda self: pytest.fail("trained again"))
    assert contents(collect(config)) == before


def test_more_networks_and_tasks_are_added_to_what_is_there(config):
    before = contents(collect(config))
    config.tasks, config.networks, config.stack = ["mlp", "cnn"], 5, 2
    after = contents(collect(config))
    assert list(after) == [(task, seed) for task in ("cnn", "mlp") for seed in range(5)]
    assert before.items() <= after.items()


def _collect_until_it_stops(config, monkeypatch, owner, name, stopping) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            collect(config)


@pytest.mark.parametrize("stop_at", [1, 25, 40])
@pytest.mark.parametrize("execution", ["stacked", "looped"])
@pytest.mark.usefixtures("small_chunks")
def test_stopped_and_resumed_is_bit_identical(config, store_path, monkeypatch, stop_at, execution):
    config.tasks, config.execution = ["noisy"], execution
    uninterrupted = contents(collect(replace(config, out=f"{store_path}-whole")))
    step = StackedTraining.step
    steps = 0

    def stopping(self):
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise KeyboardInterrupt
        return step(self)

    _collect_until_it_stops(config, monkeypatch, StackedTraining, "step", stopping)
    torch.manual_seed(stop_at)
    assert contents(collect(config)) == uninterrupted
    assert list(store_path.rglob(cohort_training.CHECKPOINT)) == []


@pytest.mark.usefixtures("small_chunks")
def test_what_was_finished_before_the_stop_is_not_trained_again(config, monkeypatch):
    steps = []
    step = StackedTraining.step
    monkeypatch.setattr(StackedTraining, "step", lambda self: steps.append(1) or step(self))

    def stopping(training, cohort):
        raise KeyboardInterrupt

    _collect_until_it_stops(config, monkeypatch, cohort_training, "_scores", stopping)
    assert len(steps) == 40
    (found,) = TrajectoryStore.open(config.out).cohorts()
    assert (found.recorded, found.complete) == (5, False)
    collect(config)
    assert len(steps) == 40


@pytest.mark.usefixtures("small_chunks")
def test_a_crash_between_a_chunk_and_its_checkpoint(config, store_path, monkeypatch):
    uninterrupted = contents(collect(replace(config, out=f"{store_path}-whole")))
    saves = []
    save = cohort_training._save

    def crashing(training, states, path):
        saves.append(states)
        if states == 4:
            raise KeyboardInterrupt
        save(training, states, path)

    _collect_until_it_stops(config, monkeypatch, cohort_training, "_save", crashing)
    assert saves == [2, 4]
    assert contents(collect(config)) == uninterrupted


def test_the_global_random_state_is_left_alone(config):
    before = torch.get_rng_state()
    collect(config)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_diverges_is_logged_and_cut(config, store_path, caplog):
    config.lr_range = [1e307, 1e307]
    with caplog.at_level(logging.WARNING):
        store = collect(config)
    assert caplog.messages == [
        "task 'mlp': the networks of the seeds [0, 1, 2] diverged; their trajectories end before"
    ]
    for trajectory in store.trajectories:
        assert trajectory.score is None
        assert len(trajectory.steps) < 5
        assert trajectory.states(0, len(trajectory.steps)).isfinite().all()
        assert np.isfinite(trajectory.losses).all()
    assert store.describe().splitlines()[2].split() == ["mlp", "3", "3", "0", "243", "3", "–", "–", "–"]


def test_learning_rates_are_drawn_evenly_in_their_logarithm_from_the_seed(config):
    config.networks, config.steps, config.every = 200, 1, 1
    config.weight_decays = [0.0, 0.1]
    found = collect(config).trajectories
    factors = np.log([t.hyperparameters["lr"] / TASKS["mlp"].lr for t in found])
    low, high = math.log(0.3), math.log(3)
    assert low <= factors.min() < factors.max() <= high
    shares = np.histogram(factors, bins=4, range=(low, high))[0]
    assert shares.min() > 30
    decays = [t.hyperparameters["weight_decay"] for t in found]
    assert 70 < decays.count(0.0) == 200 - decays.count(0.1) < 130


def test_settings_of_the_task_where_none_are_given(store_path):
    (trajectory, *_) = collect(CollectConfig(tasks=["mlp"], networks=1, out=str(store_path))).trajectories
    assert trajectory.steps.tolist() == list(range(41))
    assert trajectory.hyperparameters["weight_decay"] == TASKS["mlp"].weight_decay


def test_a_task_that_is_kept_for_judging_is_refused(config, store_path):
    config.tasks = ["mlp", "kept"]
    with pytest.raises(ConfigError) as caught:
        collect(config)
    assert str(caught.value) == (
        "task 'kept' is kept for judging nowcasters, and none must learn from it. Collect other tasks, or, for "
        "trajectories that no nowcaster learns from, set held_out=true"
    )
    assert not store_path.exists()
    config.held_out = True
    assert len(collect(config).trajectories) == 6


def test_other_settings_for_networks_that_are_there(config, store_path):
    collect(config)
    config.every = 20
    with pytest.raises(ConfigError) as caught:
        collect(config)
    assert str(caught.value) == (
        f"{store_path}: task 'mlp' has networks of the seeds 0 to 2 already, of other every: 10, not 20. Use the same "
        f"settings, another first_seed, or another out; or remove {store_path / 'mlp' / 'seeds-000000-000002'}"
    )
    config.first_seed = 3
    assert [len(t.steps) for t in collect(config).trajectories] == [5, 5, 5, 3, 3, 3]


def test_other_precision_for_networks_that_are_there(config):
    collect(config)
    config.autocast = True
    with pytest.raises(ConfigError, match=r"already, of other autocast: False, not True\."):
        collect(config)


def test_other_settings_for_networks_that_have_no_state_yet(config, monkeypatch):
    def stopping(self):
        raise KeyboardInterrupt

    config.stack = 2
    _collect_until_it_stops(config, monkeypatch, StackedTraining, "initial_losses", stopping)
    assert [cohort.recorded for cohort in TrajectoryStore.open(config.out).cohorts()] == [0, 0]
    config.every, config.stack = 20, 3
    assert [len(t.steps) for t in collect(config).trajectories] == [3, 3, 3]


@pytest.mark.usefixtures("small_chunks")
def test_networks_that_are_not_asked_for_stay_half_done(config, monkeypatch):
    def stopping(training, states, path):
        raise KeyboardInterrupt

    _collect_until_it_stops(config, monkeypatch, cohort_training, "_save", stopping)
    config.first_seed = 3
    assert [len(t.steps) for t in collect(config).trajectories] == [2, 2, 2, 5, 5, 5]


@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_checkpoint(config, monkeypatch, store_path):
    uninterrupted = contents(collect(replace(config, out=f"{store_path}-whole")))

    def stopping(self, row):
        raise KeyboardInterrupt

    _collect_until_it_stops(config, monkeypatch, StackedTraining, "score", stopping)
    (checkpoint,) = store_path.rglob(cohort_training.CHECKPOINT)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(StoreError) as caught:
        collect(config)
    assert str(caught.value).startswith(f"{checkpoint}: is no checkpoint of a collection (")
    assert str(caught.value).endswith("); remove it, and its networks are trained from their start")
    checkpoint.unlink()
    assert contents(collect(config)) == uninterrupted


def test_the_current_folder(config, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config.out = "."
    assert len(collect(config).trajectories) == 3


def test_fewer_steps_than_a_state_takes(config):
    config.every = 41
    with pytest.raises(ConfigError) as caught:
        collect(config)
    assert str(caught.value) == "task 'mlp': steps must be at least every, which is 41; got 40"


def test_one_process_at_a_time_writes(config, store_path):
    with (
        FileLock(store_path.with_name(f"{store_path.name}.lock")),
        pytest.raises(StoreError, match=r"trajectories: another process collects into it\. Wait for it, or choose"),
    ):
        collect(config)


def test_missing_data_is_said_before_the_training(config, store_path):
    config.tasks = ["mlp", "fm16"]
    with pytest.raises(DatasetError, match=r"^task 'fm16' reads its data from a folder"):
        collect(config)
    assert not store_path.exists()


def test_a_gpu_that_is_not_there(config):
    config.device = "cuda:99"
    with pytest.raises(ConfigError, match=r"^device 'cuda:99': torch sees \d+ CUDA devices here"):
        collect(config)


DIGITS = ["tasks=[digits_mlp]", "networks=4", "stack=2", "steps=40", "every=10", "threads=1"]


def test_processes_share_the_work(store_path, capsys):
    for workers in (1, 2):
        assert main(["collect", *DIGITS, f"workers={workers}", f"out={store_path}-{workers}"]) == 0
    one, two = (contents(TrajectoryStore.open(f"{store_path}-{workers}")) for workers in (1, 2))
    assert len(one) == 4
    assert one == two
    *_, row, last = capsys.readouterr().out.splitlines()
    assert row.split()[:3] == ["digits_mlp", "4", "0"]
    assert last == f"Trajectories in {store_path}-2"


def test_kill_9_and_the_same_command_again(store_path):
    settings = ["tasks=[digits_mlp]", "networks=2", "steps=200", "every=1", "threads=1"]
    command = [sys.executable, "-c", "from ninokit.cli import main; main()", "collect", *settings]
    with subprocess.Popen([*command, f"out={store_path}"]) as process:
        while _recorded(store_path) < 64:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 64 <= _recorded(store_path) < 201
    main(["collect", *settings, f"out={store_path}"])
    main(["collect", *settings, f"out={store_path}-whole"])
    assert contents(TrajectoryStore.open(store_path)) == contents(TrajectoryStore.open(f"{store_path}-whole"))


def _recorded(path) -> int:
    try:
        return sum(found.recorded for found in TrajectoryStore.open(path).cohorts())
    except StoreError:
        return 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks=[]", "tasks must be a list of names of tasks, see `ninokit tasks`, such as [mnist1d_mlp]; got []"),
        ("lr_range=[1]", "lr_range must be two numbers above 0, the smaller first, such as [0.3,3]; got [1]"),
        ("lr_range=[3,1]", "lr_range must be two numbers above 0, the smaller first, such as [0.3,3]; got [3, 1]"),
        ("weight_decays=[-1]", "weight_decays must be a list of numbers, at least 0, such as [0,0.01]; got [-1]"),
        ("dtype=int8", "dtype must be one of float32, float16, bfloat16; got 'int8'"),
        ("execution=fast", "execution must be stacked or looped; got 'fast'"),
        ("first_seed=-1", "first_seed must be a whole number, at least 0; got -1"),
        ("held_out=1", "held_out must be true or false; got 1"),
    ],
)
def test_refused_settings(override, message, capsys):
    assert main(["collect", override]) == 2
    assert capsys.readouterr().err == f"ninokit: the command line: {message}\n"
