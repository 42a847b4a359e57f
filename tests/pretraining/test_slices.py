"""Slices against the trajectories that they are cut from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninokit.errors import ConfigError
from ninokit.pretraining.slices import SliceSampler, encode_tasks


def make_sampler(store, **changes) -> SliceSampler:
    arguments = {"context": 3, "horizon": 7, "spacing": (10, 40)} | changes
    return SliceSampler(store.trajectories, encode_tasks(store.trajectories), **arguments)


def whole_states(store) -> dict[str, torch.Tensor]:
    """Task → all states, shape (networks, T, P)."""
    tasks = {trajectory.task for trajectory in store.trajectories}
    return {
        task: torch.stack([t.states(0, len(t.steps)) for t in store.trajectories if t.task == task]) for task in tasks
    }


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_slices_are_evenly_spaced_states_of_one_network(tiny_store, seed):
    whole = whole_states(tiny_store)
    for slices in make_sampler(tiny_store).draw(np.random.default_rng(seed), 2, 4):
        flat = torch.cat([x.flatten(2) for x in slices.states.values()], dim=-1)
        for states, known in zip(flat, slices.known, strict=True):
            count = 3 + int(known.sum())
            assert known.tolist() == [True] * (count - 3) + [False] * (10 - count)
            assert count > 3
            places = [_place(whole[slices.task], state) for state in states]
            networks, steps = {network for network, _ in places}, [step for _, step in places]
            assert len(networks) == 1
            stride = steps[1] - steps[0]
            assert 2 <= stride <= 8  # 10 to 40 steps, and a state every 5
            assert steps[:count] == list(range(steps[0], steps[0] + count * stride, stride))
            assert set(steps[count:]) <= {steps[count - 1]}
            assert count == 10 or steps[count - 1] + stride >= 60


def _place(whole: torch.Tensor, state: torch.Tensor) -> tuple[int, int]:
    (place,) = (whole == state).all(-1).nonzero().tolist()
    return tuple(place)


def test_the_whole_training_and_all_spacings_are_drawn(tiny_store):
    sampler, whole = make_sampler(tiny_store), whole_states(tiny_store)["deep"]
    slices = sampler.draw_task(np.random.default_rng(0), "deep", 250)
    flat = torch.cat([x.flatten(2) for x in slices.states.values()], dim=-1)
    places = [[_place(whole, state) for state in states[:3]] for states in flat]
    assert {network for (network, _), *_ in places} == set(range(8))
    strides = [second[1] - first[1] for first, second, _ in places]
    assert set(strides) == set(range(2, 9))
    assert min(first[1] for first, *_ in places) == 0
    assert max(last[1] for *_, last in places) == 57  # one state ahead, the 60th, is known
    assert slices.known[:, 0].all()


def test_tasks_are_drawn_alike_however_many_networks_they_have(tiny_store):
    sampler = make_sampler(tiny_store)
    drawn = [sampler.draw(np.random.default_rng(seed), 1, 1)[0].task for seed in range(200)]
    assert 70 < drawn.count("convolutional") < 130
    assert sorted(s.task for s in sampler.draw(np.random.default_rng(0), 9, 1)) == ["convolutional", "deep"]


@pytest.mark.parametrize(
    ("edges", "deep", "convolutional"), [(None, 4, 4), (4 * 32, 4, 4), (3 * 32, 3, 4), (3 * 32 - 1, 2, 4), (1, 1, 1)]
)
def test_fewer_slices_are_drawn_of_a_network_with_many_edges(tiny_store, edges, deep, convolutional):
    # One edge a weight and a bias, however many taps: 3·5 + 5·2 + 7 = 32 of the deep, 1·3 + 3·2 + 5 of the other.
    drawn = make_sampler(tiny_store).draw(np.random.default_rng(0), 2, 4, edges)
    assert {slices.task: len(slices.known) for slices in drawn} == {"deep": deep, "convolutional": convolutional}


@pytest.mark.parametrize(("memory", "device"), [(0, "cpu"), (2**30, "meta")])
def test_trajectories_are_kept_on_the_device(tiny_store, memory, device):
    slices = make_sampler(tiny_store, memory=memory, device="meta").draw_task(np.random.default_rng(0), "deep", 2)
    assert {states.device.type for states in slices.states.values()} == {device}


def test_what_is_kept_in_memory_makes_no_difference(tiny_store, monkeypatch):
    bytes_in_all = sum(4 * 60 * trajectory.num_parameters for trajectory in tiny_store.trajectories)
    for memory, most in ((bytes_in_all - 1, 40), (bytes_in_all, 11)):
        reads = []
        kept = make_sampler(tiny_store, memory=memory)
        cohort = "ninokit.pretraining.cohort.Cohort.states"
        original = type(tiny_store.trajectories[0]._cohort).states
        monkeypatch.setattr(cohort, lambda *a, original=original, reads=reads: reads.append(a) or original(*a))
        found = kept.draw(np.random.default_rng(5), 2, 20)
        monkeypatch.setattr(cohort, original)
        assert len(reads) <= most
        assert (len(reads) == 40) == (memory < bytes_in_all)
        for some, others in zip(found, make_sampler(tiny_store).draw(np.random.default_rng(5), 2, 20), strict=True):
            assert all(torch.equal(some.states[name], others.states[name]) for name in some.states)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"spacing": (6, 9)}, "4 states 6 to 9 optimizer steps apart; got 60 states 5 apart"),
        ({"spacing": (100, 200)}, "4 states 100 to 200 optimizer steps apart; got 60 states 5 apart"),
        ({"context": 60}, "61 states 10 to 40 optimizer steps apart; got 60 states 5 apart"),
    ],
)
def test_trajectories_that_hold_no_slice(tiny_store, changes, expected):
    with pytest.raises(ConfigError) as caught:
        make_sampler(tiny_store, **changes)
    assert str(caught.value) == (
        f"trajectory of task 'convolutional', seed 0: expected {expected}. Change the spacing, or collect longer "
        f"trajectories with states closer together"
    )
