"""The store against arrays in memory, and against kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninokit.errors import StoreError
from ninokit.pretraining import Trajectory, TrajectoryStore
from ninokit.pretraining.cohort import CohortDescription

ABOUT = CohortDescription(
    task="digits_mlp",
    seeds=(3, 4),
    hyperparameters=({"lr": 0.01, "weight_decay": 0.0}, {"lr": 0.02, "weight_decay": 0.1}),
    parameters=(("weight", (2, 3)), ("bias", (2,))),
    every=10,
    num_states=150,
)
CHUNK = 64
STARTS = (0, 64, 128)


def random_states(dtype: str = "float32") -> torch.Tensor:
    return torch.randn(2, 150, 8).to(getattr(torch, dtype))


def losses_of(states: torch.Tensor) -> torch.Tensor:
    return states.float().sum(dim=2)


def fill(cohort, states: torch.Tensor, starts=STARTS) -> None:
    for start in starts:
        chunk = states[:, start : start + CHUNK]
        cohort.write(start, chunk, losses_of(chunk))


def test_a_trajectory_is_what_was_written(store_path):
    states = random_states()
    cohort = TrajectoryStore.create(store_path).add(ABOUT)
    fill(cohort, states)
    cohort.finish([0.5, None])
    first, second = TrajectoryStore.open(store_path).trajectories
    assert (first.task, first.seed, first.score) == ("digits_mlp", 3, 0.5)
    assert (second.seed, second.score, second.hyperparameters) == (4, None, {"lr": 0.02, "weight_decay": 0.1})
    assert second.parameters == (("weight", (2, 3)), ("bias", (2,)))
    assert (second.num_parameters, second.steps.dtype) == (8, np.int64)
    assert second.steps.tolist() == list(range(0, 1500, 10))
    assert torch.equal(second.states(0, 150), states[1])
    assert torch.equal(torch.from_numpy(second.losses), losses_of(states)[1])


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"])
def stored(request, tmp_path_factory) -> tuple[Trajectory, torch.Tensor]:
    """A trajectory and its states as the precision keeps them."""
    torch.manual_seed(1)
    states = random_states(request.param)
    path = tmp_path_factory.mktemp("store") / "trajectories"
    cohort = TrajectoryStore.create(path).add(replace(ABOUT, dtype=request.param))
    fill(cohort, states)
    return TrajectoryStore.open(path).trajectories[1], states[1].float()


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slices_are_those_of_the_whole(stored, data):
    trajectory, whole = stored
    start = data.draw(st.integers(0, 149))
    stop = data.draw(st.integers(start + 1, 150))
    stride = data.draw(st.integers(1, 160))
    found = trajectory.states(start, stop, stride)
    assert found.dtype == torch.float32
    assert torch.equal(found, whole[start:stop:stride])


@pytest.mark.parametrize("asked", [(-1, 3, 1), (3, 3, 1), (0, 151, 1), (0, 3, 0)])
def test_states_that_are_not_there(stored, asked):
    with pytest.raises(StoreError) as caught:
        stored[0].states(*asked)
    assert str(caught.value) == (
        "trajectory of task 'digits_mlp', seed 4: expected 0 <= start < stop <= 150, its states, and a stride of at "
        f"least 1; got states{asked}"
    )


def test_only_the_chunks_that_are_asked_for_are_read(store_path):
    store = TrajectoryStore.create(store_path)
    fill(store.add(ABOUT), random_states())
    asked_for = store.folder(ABOUT) / "states" / "c" / "0" / "1" / "0"
    chunks = [path for path in asked_for.parents[2].rglob("*") if path.is_file()]
    assert len(chunks) == 2 * 3
    for path in chunks:
        if path != asked_for:
            path.write_bytes(b"damaged")
    trajectory = TrajectoryStore.open(store_path).trajectories[0]
    assert trajectory.states(64, 128).shape == (64, 8)
    with pytest.raises(StoreError) as caught:
        trajectory.states(63, 128)
    assert str(caught.value) == (
        f"{store.folder(ABOUT)}: the states of task 'digits_mlp', seed 3, can't be read (RuntimeError: error during "
        "blosc decompression: -1). Restore the folder from a copy, or remove it and collect anew"
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_lost_chunk_is_not_read_as_zeros(store_path, dtype):
    store, about = TrajectoryStore.create(store_path), replace(ABOUT, dtype=dtype)
    fill(store.add(about), random_states(dtype))
    (store.folder(about) / "states" / "c" / "1" / "0" / "0").unlink()
    first, second = TrajectoryStore.open(store_path).trajectories
    assert first.states(0, 150).shape == (150, 8)
    assert second.states(64, 150).shape == (86, 8)
    with pytest.raises(StoreError, match=r"seed 4, can't be read \(chunks are missing\)\. Restore the folder"):
        second.states(63, 65)


def test_more_networks_are_appended_and_no_network_twice(store_path):
    fill(TrajectoryStore.create(store_path).add(ABOUT), random_states())
    again = TrajectoryStore.create(store_path)
    fill(again.add(replace(ABOUT, seeds=(5, 7))), random_states())
    fill(again.add(replace(ABOUT, task="a_task")), random_states())
    found = [(t.task, t.seed) for t in TrajectoryStore.open(store_path).trajectories]
    assert found == [("a_task", 3), ("a_task", 4), *(("digits_mlp", seed) for seed in (3, 4, 5, 7))]
    with pytest.raises(StoreError) as caught:
        again.add(replace(ABOUT, seeds=(2, 4, 7)))
    assert str(caught.value) == (
        f"{store_path}: task 'digits_mlp' has networks of the seeds [4, 7] already. Choose other seeds"
    )


def test_a_network_that_diverges_ends_before_its_first_state_that_is_not_finite(store_path):
    states = random_states()
    states[0, 70, 3] = torch.inf
    states[1, 130:, :] = torch.nan
    fill(TrajectoryStore.create(store_path).add(ABOUT), states)
    first, second = TrajectoryStore.open(store_path).trajectories
    assert (len(first.steps), len(second.steps)) == (70, 130)
    assert torch.equal(first.states(60, 70), states[0, 60:70])


def test_a_loss_that_is_not_finite_ends_a_trajectory_too_and_one_without_states_is_left_out(store_path):
    states = random_states()
    losses = losses_of(states[:, :CHUNK])
    losses[0, 0], losses[1, 5] = torch.nan, torch.inf
    TrajectoryStore.create(store_path).add(ABOUT).write(0, states[:, :CHUNK], losses)
    (only,) = TrajectoryStore.open(store_path).trajectories
    assert (only.seed, len(only.steps)) == (4, 5)


def test_a_weight_that_float16_cannot_hold_ends_a_trajectory(store_path):
    states = random_states()
    states[0, 20, 0] = 70_000.0
    fill(TrajectoryStore.create(store_path).add(replace(ABOUT, dtype="float16")), states)
    assert [len(t.steps) for t in TrajectoryStore.open(store_path).trajectories] == [20, 150]


def test_a_chunk_that_is_written_again_replaces_what_followed(store_path):
    states = random_states()
    cohort = TrajectoryStore.create(store_path).add(ABOUT)
    diverged = states.clone()
    diverged[0, 80] = torch.nan
    fill(cohort, diverged, STARTS[:2])
    assert cohort.lengths == [80, 128]
    fill(cohort, states, STARTS[1:])
    assert (cohort.recorded, cohort.lengths) == (150, [150, 150])
    assert torch.equal(TrajectoryStore.open(store_path).trajectories[0].states(0, 150), states[0])


@pytest.mark.parametrize("start", [0, 64, 128, 10])
def test_chunks_must_be_whole_and_follow_each_other(store_path, start):
    cohort = TrajectoryStore.create(store_path).add(ABOUT)
    states = torch.zeros(2, 63, 8)
    with pytest.raises(StoreError, match=r"^cohort of task 'digits_mlp': expected a chunk of 64 states that starts"):
        cohort.write(start, states, losses_of(states))


def test_a_loss_for_every_state(store_path):
    cohort = TrajectoryStore.create(store_path).add(ABOUT)
    with pytest.raises(StoreError) as caught:
        cohort.write(0, torch.zeros(2, 64, 8), torch.zeros(2, 63))
    assert str(caught.value) == ("cohort of task 'digits_mlp': expected a loss a state, of shape (2, 64); got (2, 63)")


def test_compression_makes_float32_smaller(store_path):
    """Of a random walk that slows down, as weights do."""
    states = (torch.randn(2, 150, 8) / torch.arange(1, 151).view(1, -1, 1)).cumsum(dim=1)
    store = TrajectoryStore.create(store_path)
    about = replace(ABOUT, parameters=(("weight", (1000, 8)),))
    cohort = store.add(about)
    states = states.repeat(1, 1, 1000) + 1e-3 * torch.randn(2, 150, 8000)
    for start in STARTS:
        cohort.write(start, states[:, start : start + CHUNK], states[:, start : start + CHUNK, 0])
    size = sum(path.stat().st_size for path in store.folder(about).rglob("*") if path.is_file())
    assert size < 0.9 * states.numel() * 4


def test_the_model_of_a_trajectory_comes_from_its_task(store_path):
    from ninokit.benchmarks.tasks.digits import DIGITS_MLP

    model = DIGITS_MLP.build_model()
    parameters = tuple((name, tuple(p.shape)) for name, p in model.named_parameters())
    about = replace(ABOUT, parameters=parameters, num_states=1)
    cohort = TrajectoryStore.create(store_path).add(about)
    cohort.write(0, torch.zeros(2, 1, about.num_parameters), torch.zeros(2, 1))
    built = TrajectoryStore.open(store_path).trajectories[0].build_model()
    assert [(n, tuple(p.shape)) for n, p in built.named_parameters()] == list(parameters)


def test_a_task_whose_network_has_changed_is_refused(store_path):
    fill(TrajectoryStore.create(store_path).add(ABOUT), random_states())
    with pytest.raises(StoreError, match=r"seed 3: the task's network has other parameters today\. Expected \{'weig"):
        TrajectoryStore.open(store_path).trajectories[0].build_model()


def test_no_store(tmp_path):
    absent = tmp_path / "absent"
    with pytest.raises(StoreError) as caught:
        TrajectoryStore.open(absent)
    assert str(caught.value) == (
        f"{absent}: no store of trajectories is there. `ninokit collect out={absent}` makes one"
    )


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError) as caught:
        TrajectoryStore.create(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is no store of trajectories, and not an empty folder. Choose another out"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_store_of_another_version(store_path):
    TrajectoryStore.create(store_path)
    file = store_path / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "attributes": {"format": "x"}}))
    with pytest.raises(StoreError) as caught:
        TrajectoryStore.open(store_path)
    assert str(caught.value) == (
        f"{store_path}: expected a zarr group with the attributes "
        "{'format': 'ninokit trajectories', 'version': 1}; got {'format': 'x', 'version': None}. Choose another"
    )


def test_damaged_metadata(store_path):
    store = TrajectoryStore.create(store_path)
    store.add(ABOUT)
    folder = store.folder(ABOUT)
    (folder / "zarr.json").write_text('{"zarr_')
    with pytest.raises(StoreError) as caught:
        TrajectoryStore.open(store_path).cohorts()
    assert str(caught.value).startswith(f"{folder / 'zarr.json'}: is damaged (Unterminated string")
    assert str(caught.value).endswith(f"). Restore it from a copy, or remove {folder} and collect anew")
    (store_path / "zarr.json").write_text("")
    with pytest.raises(StoreError, match=r"trajectories/zarr\.json: is damaged \(.*\)\. Restore it from a copy$"):
        TrajectoryStore.open(store_path)


WRITER = """
    import sys
    from dataclasses import replace
    import torch
    from ninokit.pretraining import TrajectoryStore
    from ninokit.pretraining.cohort import CohortDescription

    torch.set_num_threads(1)
    about = CohortDescription(task="t", seeds=(0, 1), hyperparameters=({}, {}), parameters=(("w", (2000,)),), every=1,
                              num_states=64 * 10_000)
    cohort = TrajectoryStore.create(sys.argv[1]).add(about)
    for start in range(0, about.num_states, 64):
        step = torch.arange(start, start + 64).view(1, 64, 1).float()
        cohort.write(start, step.expand(2, 64, 2000) + torch.tensor([0, 0.5]).view(2, 1, 1), step[..., 0].expand(2, 64))
        print(start + 64, flush=True)
"""


@pytest.mark.parametrize(("chunks", "seconds_later"), [(1, 0.0), (2, 0.003), (4, 0.02)])
def test_kill_9_loses_at_most_the_chunk_on_its_way(store_path, chunks, seconds_later):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(store_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(chunks)][-1]
        time.sleep(seconds_later)
        process.send_signal(signal.SIGKILL)
        acknowledged = int(([acknowledged, *process.stdout.read().split()])[-1])
    trajectories = TrajectoryStore.open(store_path).trajectories
    assert [t.seed for t in trajectories] == [0, 1]
    for trajectory in trajectories:
        length = len(trajectory.steps)
        assert length - acknowledged in {0, 64}
        expected = torch.arange(length).view(-1, 1).expand(-1, 2000) + 0.5 * trajectory.seed
        assert torch.equal(trajectory.states(0, length), expected)
    (cohort,) = TrajectoryStore.create(store_path).cohorts()
    again = torch.zeros(2, 64, 2000)
    cohort.write(cohort.recorded, again, again[..., 0])
    assert len(TrajectoryStore.open(store_path).trajectories[0].steps) == length + 64


def test_a_cohort_that_died_while_it_was_made_is_made_anew(store_path):
    store = TrajectoryStore.create(store_path)
    store._root.require_group(ABOUT.task).create_group(store.folder(ABOUT).name)
    assert TrajectoryStore.open(store_path).trajectories == ()
    fill(store.add(ABOUT), random_states())
    assert len(TrajectoryStore.open(store_path).trajectories) == 2


def test_files_that_a_killed_process_left_behind_disturb_nobody(store_path):
    store = TrajectoryStore.create(store_path)
    fill(store.add(ABOUT), random_states())
    for folder in (store_path, store_path / ABOUT.task, store.folder(ABOUT)):
        (folder / "zarr.0123456789abcdef.partial").write_text("{")
    assert [found.seed for found in TrajectoryStore.open(store_path).trajectories] == [3, 4]
    assert TrajectoryStore.open(store_path).describe().splitlines()[-1].startswith("digits_mlp")
