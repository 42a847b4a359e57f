"""Runs of an evaluation, trained side by side in processes of their own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, replace
from itertools import islice

from tqdm import tqdm

from ninokit.benchmarks.compare import find_task
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.device import share_of_cpus, torch_threads
from ninokit.benchmarks.evaluation.contenders import Contender, load_contenders
from ninokit.benchmarks.evaluation.runs import RunStore, TrainingPlan, plan_run, runs_folder
from ninokit.benchmarks.evaluation.settings import EvaluateConfig
from ninokit.benchmarks.workers import worker_pool

__all__ = ["train_in_processes"]


@dataclass(frozen=True)
class _Job:
    """A run by its names, as another process can build it."""

    task: str
    lr: float
    seed: int
    contender: str | None

    @classmethod
    def of(cls, plan: TrainingPlan) -> _Job:
        contender = None if plan.contender is None else plan.contender.source
        return cls(plan.task.name, plan.task.lr, plan.seed, contender)


def train_in_processes(plans: Sequence[TrainingPlan], config: EvaluateConfig) -> None:
    """Train the runs that are not there, ``config.workers`` at a time.

    Each is kept when it is finished; if one fails, those under way are finished and the others are left out.

    Args:
        plans: of the evaluation's runs, of registered tasks.
        config: its settings.

    Raises:
        ConfigError: a run is there, but of other settings.
        Exception: what a run failed with.
    """
    store = RunStore(runs_folder(config))
    jobs = dict.fromkeys(_Job.of(plan) for plan in plans if store.find(plan) is None)
    waiting = iter(jobs)
    # disable=None: no bar where the output is not a terminal.
    with (
        worker_pool(config.workers) as pool,
        tqdm(desc="training", total=len(jobs), unit="run", disable=None) as bar,
    ):
        # No more than there are workers: what the pool has taken, it can't give back.
        under_way = {pool.submit(_train, job, config) for job in islice(waiting, config.workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                bar.update()
            under_way |= {pool.submit(_train, job, config) for job in islice(waiting, len(done))}


def _train(job: _Job, config: EvaluateConfig) -> None:
    task = replace(find_task(job.task), lr=job.lr)
    contender = None if job.contender is None else _contender(job.contender)
    with torch_threads(config.threads or share_of_cpus(config.workers)):
        plan = plan_run(config, task, job.seed, contender, show_progress=False)
        RunStore(runs_folder(config)).get(plan, functools.partial(kept_data, job.task, config.data_root, config.device))


@functools.cache
def _contender(source: str) -> Contender:
    (contender,) = load_contenders([source])
    return contender
