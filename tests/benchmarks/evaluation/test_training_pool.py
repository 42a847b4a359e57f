"""A pool of processes: what it hands to them, and what it does when a run fails. The processes are stand-ins."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import pytest

from ninokit.benchmarks import Task
from ninokit.benchmarks.arms import find_arm
from ninokit.benchmarks.evaluation.store import RunStore
from ninokit.benchmarks.evaluation.training_pool import TrainingPool, _arm, training_pool

SOURCES = {name: name for name in ("adamw", "null", "twice")}


class AtOnce:
    """Does what it is given on the spot."""

    def submit(self, work, job):
        future = Future()
        try:
            future.set_result(work(job))
        except ZeroDivisionError as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here(tmp_path):
    return TrainingPool(RunStore(str(tmp_path / "here")), SOURCES, None, None, 1, None)


@pytest.fixture
def apart(tmp_path):
    _arm.cache_clear()
    yield TrainingPool(RunStore(str(tmp_path / "apart")), SOURCES, None, AtOnce(), 2, None)
    _arm.cache_clear()


@pytest.fixture
def plans(short, register, plan):
    """Each field of a plan is another one somewhere."""
    register([short])
    first = replace(plan, task=short, arm=find_arm("adamw"), steps=16)
    longer = replace(short, total_steps=20, period=5)
    return [
        first,
        replace(first, seed=4, lr=0.02),
        replace(first, task=longer, arm=find_arm("null"), option=0.5, split="validation", curve=None),
        replace(first, arm=find_arm("null"), option=2.0, curve="raw", steps=12),
    ]


def unhurried(found):
    return replace(found.run, events=tuple(replace(event, seconds=0.0) for event in found.run.events))


def test_another_process_trains_what_was_planned(here, apart, plans, trained):
    here.train(plans)
    assert len(trained) == 4
    apart.train(plans)
    assert [each.settings for each in trained[4:]] == [each.settings for each in plans]
    for plan in plans:
        assert unhurried(here.store.find(plan)) == unhurried(apart.store.find(plan))


def test_each_run_is_trained_once(apart, plans, trained):
    apart.train(plans[:2])
    apart.train([*plans, *plans])
    assert [each.file for each in trained] == [each.file for each in plans]


@pytest.mark.parametrize("pool", ["here", "apart"])
def test_a_failure_is_told_and_what_is_finished_stays(request, pool, plans, monkeypatch):
    pool = request.getfixturevalue(pool)
    loss = Task.loss
    monkeypatch.setattr(Task, "loss", lambda task, *args: 1 / 0 if task.total_steps == 20 else loss(task, *args))
    with pytest.raises(ZeroDivisionError):
        pool.train(plans)
    assert [pool.store.find(plan) is not None for plan in plans] == [True, True, False, pool.processes is not None]


def test_one_worker_is_this_process(tmp_path):
    with training_pool(RunStore(str(tmp_path)), SOURCES, "data", 1, 3) as pool:
        assert (pool.processes, pool.threads, pool.data_root) == (None, 3, "data")
