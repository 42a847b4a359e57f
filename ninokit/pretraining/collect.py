"""Train many small networks and store their trajectories: what ``ninokit collect`` does."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ninokit.benchmarks.data import kept_data, load_data
from ninokit.benchmarks.device import check_device, share_of_cpus, torch_threads
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.benchmarks.workers import end_with_parent, worker_pool
from ninokit.errors import StoreError
from ninokit.pretraining.cohort import CohortDescription
from ninokit.pretraining.cohort_training import CHECKPOINT, train_cohort
from ninokit.pretraining.collect_config import CollectConfig
from ninokit.pretraining.collection_plan import collectable_task, plan_cohorts
from ninokit.pretraining.network_stack import faster_execution
from ninokit.pretraining.stacked_training import initial_network
from ninokit.pretraining.store import TrajectoryStore

__all__ = ["collect"]

# Called with the number of states that were written of each network of a cohort.
_Progress = Callable[[int], object]


def collect(config: CollectConfig) -> TrajectoryStore:
    """Train what the settings ask for and the store lacks.

    The same settings go on where they were stopped: finished networks are left alone, those half done continue from
    their last chunk bit for bit as if nothing had happened. A network that diverges is logged and its trajectory ends
    before.

    Args:
        config: the settings, as from `ninokit.configuration.load_config`.

    Returns:
        The store with all its trajectories.

    Raises:
        ConfigError: there is no such task or device, a task is kept for judging, or the store has networks of these
            seeds with other settings.
        DatasetError: a task's data is not there.
        DependencyError: an optional package is missing.
        StoreError: ``out`` is something else, or another process collects into it.

    Example:
        >>> collect(CollectConfig(tasks=["digits_mlp"], networks=4)).describe()  # doctest: +SKIP
    """
    check_device(config.device)
    tasks = [collectable_task(name, config) for name in config.tasks]
    for task in tasks:  # what is missing is said before hours of training
        load_data(task, config.data_root, "cpu")
    with _alone(Path(config.out)):
        store = TrajectoryStore.create(config.out)
        jobs = [cohort.description for task in tasks for cohort in plan_cohorts(store, task, config)]
        total = sum(job.num_states * len(job.seeds) for job in jobs)
        # disable=None: no bar where the output is not a terminal.
        with tqdm(total=total, desc="collect", unit="state", disable=None) as bar:
            (_run_here if config.workers == 1 else _run_in_processes)(config, jobs, bar)
    return TrajectoryStore.open(config.out)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from collecting into the same store."""
    path = path.resolve()  # which has a name, as "." has none
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise StoreError(f"{path}: another process collects into it. Wait for it, or choose another out") from error


def _run_here(config: CollectConfig, jobs: Sequence[CohortDescription], bar: tqdm[Any]) -> None:
    for job in jobs:
        bar.set_postfix_str(job.task)
        _train(config, job, bar.update)
    kept_data.cache_clear()


def _run_in_processes(config: CollectConfig, jobs: Sequence[CohortDescription], bar: tqdm[Any]) -> None:
    manager = SyncManager(ctx=multiprocessing.get_context("spawn"))
    manager.start(end_with_parent)
    with manager, worker_pool(config.workers) as pool:
        done = manager.Queue()
        futures = [pool.submit(_train, config, job, done.put) for job in jobs]
        try:
            _watch(futures, done, bar)
        finally:
            pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future[None]], done: queue.Queue[int], bar: tqdm[Any]) -> None:
    """Show the progress of processes until all are done or one fails."""
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=0.5)
        for future in finished:
            future.result()
        while not done.empty():
            bar.update(done.get())


def _train(config: CollectConfig, job: CohortDescription, progress: _Progress) -> None:
    """Train one cohort of the store, in this process."""
    store = TrajectoryStore.create(config.out)
    (cohort,) = (found for found in store.cohorts() if found.description == job)
    task = find_task(job.task)
    network = initial_network(task, 0)
    with torch_threads(config.threads or share_of_cpus(config.workers)):
        train_cohort(
            cohort,
            store.folder(job) / CHECKPOINT,
            task,
            kept_data(job.task, config.data_root, config.device),
            execution=config.execution or faster_execution(network, torch.device(config.device)),
            autocast=config.autocast,
            progress=lambda states: progress(states * len(job.seeds)),
        )
