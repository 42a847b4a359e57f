"""What is held out, and how it is scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ninokit.errors import ConfigError
from ninokit.pretraining.objective import ScaledSlices, linefit_errors, mean_error, unchanged_errors
from ninokit.pretraining.slices import SliceSampler, encode_tasks
from ninokit.pretraining.validation import Scores, Validation, split_trajectories


def named(trajectories) -> list[tuple[str, int]]:
    return [(trajectory.task, trajectory.seed) for trajectory in trajectories]


def test_the_last_seeds_of_each_task_are_held_out(tiny_store):
    split = split_trajectories(tiny_store.trajectories, [], 0.3)
    assert named(split.training) == [*(("convolutional", i) for i in range(2)), *(("deep", i) for i in range(5))]
    assert {name: named(part) for name, part in split.held_out.items()} == {
        "unseen seeds": [("convolutional", 2), ("deep", 5), ("deep", 6), ("deep", 7)]
    }


def test_whole_tasks_are_held_out(tiny_store):
    split = split_trajectories(tiny_store.trajectories, ["convolutional"], 0.1)
    assert named(split.training) == [("deep", i) for i in range(7)]
    assert {name: named(part) for name, part in split.held_out.items()} == {
        "unseen seeds": [("deep", 7)],
        "unseen tasks": [("convolutional", i) for i in range(3)],
    }


def test_nothing_need_be_held_out(tiny_store):
    split = split_trajectories(tiny_store.trajectories, [], 0)
    assert len(split.training) == 11
    assert split.held_out == {}


def test_a_task_that_is_not_there(tiny_store):
    with pytest.raises(ConfigError) as caught:
        split_trajectories(tiny_store.trajectories, ["recurrent"], 0.1)
    assert str(caught.value) == ("validation_tasks: no trajectory is of 'recurrent'; the tasks are convolutional, deep")


def test_nothing_left(tiny_store):
    with pytest.raises(ConfigError) as caught:
        split_trajectories(tiny_store.trajectories, ["convolutional", "deep"], 0.1)
    assert str(caught.value) == (
        "nothing is left to train on: expected more than 11 trajectories, or fewer held out than the tasks "
        "['convolutional', 'deep'] and a share of 0.1 of the others' seeds"
    )


def test_scores_weigh_tasks_alike_and_leave_out_what_is_not_known():
    errors = [torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]), torch.tensor([[10.0, 9.0, 9.0]])]
    known = [torch.tensor([[True, True, False]] * 2), torch.tensor([[True, False, False]])]
    scores = Scores.of(errors, known)
    assert scores.mean == (2.5 + 10) / 2
    assert scores.by_horizon[:2] == (6, 3)
    assert math.isnan(scores.by_horizon[2])


@pytest.fixture
def make(tiny_store):
    def of(seed: int, edges: int | None = None) -> Validation:
        sampler = SliceSampler(
            tiny_store.trajectories, encode_tasks(tiny_store.trajectories), context=3, horizon=7, spacing=(5, 40)
        )
        return Validation({"unseen tasks": sampler}, 3, np.random.default_rng(seed), edges)

    return of


def test_few_edges_at_a_time_make_no_difference(make):
    seen = []

    def unchanged(slices):
        seen.append(len(slices.known) * slices.graph.num_edges)
        return unchanged_errors(ScaledSlices.of(slices, 3))

    whole = make(0).measure(unchanged)["unseen tasks"]
    assert max(seen) > 200
    seen.clear()
    parts = make(0, edges=100).measure(unchanged)["unseen tasks"]
    assert max(seen) <= 100
    for method, scores in whole.items():
        assert parts[method].mean == pytest.approx(scores.mean, rel=1e-6)
        np.testing.assert_allclose(parts[method].by_horizon, scores.by_horizon, rtol=1e-5)


def test_every_validation_is_on_the_same_slices(make):
    seen = []

    def unchanged(slices):
        seen.append(slices)
        return unchanged_errors(ScaledSlices.of(slices, 3))

    scores = make(0).measure(unchanged)["unseen tasks"]
    assert [(slices.task, len(slices.known)) for slices in seen] == [("convolutional", 32), ("deep", 32)]
    assert scores["nowcaster"].mean == scores["no change"].mean
    np.testing.assert_equal(scores["nowcaster"].by_horizon, scores["no change"].by_horizon)
    expected = [mean_error(linefit_errors(ScaledSlices.of(slices, 3)), slices.known).item() for slices in seen]
    assert scores["linefit"].mean == pytest.approx(sum(expected) / 2)
    assert make(0).measure(unchanged)["unseen tasks"]["no change"].mean == scores["no change"].mean
    assert make(1).measure(unchanged)["unseen tasks"]["no change"].mean != scores["no change"].mean
