"""Training of the runs that are not there yet, in this process or in several."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

from tqdm import tqdm

from ninokit.benchmarks.arms import Arm, find_arm
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.device import share_of_cpus, torch_threads
from ninokit.benchmarks.evaluation.run import ReadOutName, RunPlan
from ninokit.benchmarks.evaluation.store import RunStore
from ninokit.benchmarks.task import HeldOut
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.benchmarks.workers import worker_pool

__all__ = ["TrainingPool", "training_pool"]


@dataclass(frozen=True)
class _Job:
    """A run by its names, as another process can build it."""

    task: str
    total_steps: int
    period: int
    arm: str
    lr: float
    option: float | None
    seed: int
    steps: int
    split: HeldOut
    curve: ReadOutName | None
    device: str

    def plan(self) -> RunPlan:
        task = replace(find_task(self.task), total_steps=self.total_steps, period=self.period)
        return RunPlan(
            task=task,
            arm=_arm(self.arm),
            lr=self.lr,
            option=self.option,
            seed=self.seed,
            steps=self.steps,
            split=self.split,
            curve=self.curve,
            device=self.device,
        )


@dataclass(frozen=True)
class TrainingPool:
    """What trains runs.

    Args:
        store: where they are kept.
        sources: an arm's name → what `find_arm` finds it by.
        data_root: folder of the data sets.
        processes: that share the runs; None trains them here.
        workers: how many processes.
        threads: CPU threads of each; None leaves torch's own choice.
    """

    store: RunStore
    sources: Mapping[str, str]
    data_root: str | None
    processes: ProcessPoolExecutor | None
    workers: int
    threads: int | None

    def train(self, plans: Sequence[RunPlan]) -> None:
        """Train the runs that are not there, each kept when it is finished.

        If one fails, those under way are finished and the others are left out.

        Args:
            plans: of registered tasks.

        Raises:
            ConfigError: a run is there, but of other settings.
            Exception: what a run failed with.
        """
        missing = {plan.file: plan for plan in plans if self.store.find(plan) is None}
        if self.processes is None:
            with torch_threads(self.threads):
                for plan in missing.values():
                    self.store.train(plan, functools.partial(kept_data, plan.task.name, self.data_root, plan.device))
        elif missing:
            self._train_in_processes(self.processes, list(missing.values()))

    def _train_in_processes(self, processes: ProcessPoolExecutor, plans: Sequence[RunPlan]) -> None:
        train = functools.partial(_train, folder=str(self.store.folder), root=self.data_root, threads=self.threads)
        waiting = map(self._job, plans)
        # disable=None: no bar where the output is not a terminal.
        with tqdm(desc="training", total=len(plans), unit="run", disable=None) as bar:
            # No more than there are workers: what the pool has taken, it can't give back.
            under_way = {processes.submit(train, job) for job in islice(waiting, self.workers)}
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    bar.update()
                under_way |= {processes.submit(train, job) for job in islice(waiting, len(done))}

    def _job(self, plan: RunPlan) -> _Job:
        task = plan.task
        return _Job(
            task=task.name,
            total_steps=task.total_steps,
            period=task.period,
            arm=self.sources[plan.arm.name],
            lr=plan.lr,
            option=plan.option,
            seed=plan.seed,
            steps=plan.steps,
            split=plan.split,
            curve=plan.curve,
            device=plan.device,
        )


@contextmanager
def training_pool(
    store: RunStore, sources: Mapping[str, str], data_root: str | None, workers: int, threads: int | None
) -> Iterator[TrainingPool]:
    """A pool of as many processes as there are workers; of one worker, this process.

    Args:
        store: where runs are kept.
        sources: an arm's name → what `find_arm` finds it by.
        data_root: folder of the data sets.
        workers: at least 1.
        threads: CPU threads of each; None divides the CPUs among several, and leaves torch's choice to one.

    Yields:
        The pool.
    """
    if workers == 1:
        yield TrainingPool(store, sources, data_root, None, 1, threads)
        return
    with worker_pool(workers) as processes:
        yield TrainingPool(store, sources, data_root, processes, workers, threads or share_of_cpus(workers))


def _train(job: _Job, *, folder: str, root: str | None, threads: int | None) -> None:
    with torch_threads(threads):
        data = functools.partial(kept_data, job.task, root, job.device)
        RunStore(folder).train(job.plan(), data, show_progress=False)


@functools.cache
def _arm(source: str) -> Arm:
    return find_arm(source)
