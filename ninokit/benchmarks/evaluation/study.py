"""The study of one task: every arm is tuned alike, then compared with the others on seeds that nobody tuned on."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ninokit.benchmarks.arms import Arm, UnsuitedArmError
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.evaluation.results import REFERENCE, ArmResult, TaskResult, joined
from ninokit.benchmarks.evaluation.run import ArmRun, ReadOutName, RunPlan, begin
from ninokit.benchmarks.evaluation.savings import Curve
from ninokit.benchmarks.evaluation.training_pool import TrainingPool
from ninokit.benchmarks.evaluation.tuning import Setting, Trial, Tuned, tuning
from ninokit.benchmarks.task import HeldOut, Task

__all__ = ["Study", "suited_arms"]

_log = logging.getLogger(__name__)


def suited_arms(task: Task, arms: Sequence[Arm], data_root: str | None) -> tuple[list[Arm], dict[str, str]]:
    """The arms that can train a task's network, found out before hours of training.

    Args:
        task: of the training.
        arms: any.
        data_root: folder of the data sets, for the weights that a task starts from.

    Returns:
        Those that can, and why each of the others can't.

    Raises:
        NinokitError: an arm can't begin for another reason.
        DatasetError: the task's data is not there.
    """
    data = kept_data(task.name, data_root, "cpu")
    suited, unsuited = [], {}
    for arm in arms:
        plan = RunPlan(task, arm, task.lr, None, seed=0, steps=task.total_steps, split="validation", curve=None)
        try:
            with torch.random.fork_rng(devices=[]):
                _, trainer = begin(plan, data)
            trainer.close()
        except UnsuitedArmError as error:
            _log.info("%s", error)
            unsuited[arm.name] = error.reason
        else:
            suited.append(arm)
    return suited, unsuited


@dataclass(frozen=True)
class Study:
    """The study of a task.

    Args:
        task: what is trained.
        arms: how; AdamW's among them, and all of them suited.
        unsuited: arms that can't train this network → why.
        seeds: that arms are compared on.
        tuning_seeds: that settings are chosen on; none of ``seeds``. None: nothing is tuned.
        lr_factors: the grid of rates, as multiples of the task's.
        device: where runs take place.
    """

    task: Task
    arms: Sequence[Arm]
    unsuited: Mapping[str, str]
    seeds: Sequence[int]
    tuning_seeds: Sequence[int]
    lr_factors: Sequence[float]
    device: str

    def finish(self, pool: TrainingPool) -> TaskResult:
        """Train what is not there yet, and gather the results.

        Args:
            pool: what trains.

        Returns:
            The results of the task.
        """
        tuned = self._tune(pool) if self.tuning_seeds else {arm.name: self._untuned(arm) for arm in self.arms}
        rival = self._rival(tuned)
        pool.train([plan for arm in self.arms for plan in self._plans(arm, tuned[arm.name], rival)])
        environments: list[Mapping[str, Any]] = []

        def run(plan: RunPlan) -> ArmRun:
            found = pool.store.find(plan)
            assert found is not None  # it has just been trained
            environments.append(found.environment)
            return found.run

        results = tuple(self._result(arm, tuned[arm.name], rival, run) for arm in self.arms)
        return TaskResult(
            task=self.task.name,
            description=self.task.description,
            steps=self.task.total_steps,
            period=self.task.period,
            budgets=self._budgets,
            seeds=tuple(self.seeds),
            arms=results,
            rival=rival,
            unsuited=dict(self.unsuited),
            environment=joined(environments),
        )

    @property
    def _budgets(self) -> tuple[int, ...]:
        steps = self.task.total_steps
        return tuple(sorted({max(1, steps // 4), max(1, steps // 2), steps}))

    def _untuned(self, arm: Arm) -> Tuned:
        option = None if arm.option is None else arm.option.default
        return Tuned(Setting(self.task.lr, option), "averaged", ())

    def _tune(self, pool: TrainingPool) -> dict[str, Tuned]:
        """Tune all arms in step, so that the pool has many runs at a time."""
        works = {arm.name: tuning(arm, self.task.lr, self.lr_factors) for arm in self.arms}
        arms = {arm.name: arm for arm in self.arms}
        wanted = {name: next(work) for name, work in works.items()}
        tuned: dict[str, Tuned] = {}
        while wanted:
            pool.train([p for name, settings in wanted.items() for s in settings for p in self._trials(arms[name], s)])
            answers = {name: [self._trial(arms[name], s, pool) for s in settings] for name, settings in wanted.items()}
            wanted = {}
            for name, trials in answers.items():
                try:
                    wanted[name] = works[name].send(trials)
                except StopIteration as done:
                    tuned[name] = done.value
                    _log.info("%s: %s is tuned: %s", self.task.name, name, tuned[name].setting)
        return tuned

    def _trials(self, arm: Arm, setting: Setting) -> list[RunPlan]:
        steps = self.task.total_steps
        return [self._plan(arm, setting, seed, steps, "validation", None) for seed in self.tuning_seeds]

    def _trial(self, arm: Arm, setting: Setting, pool: TrainingPool) -> Trial:
        runs = [found.run for plan in self._trials(arm, setting) if (found := pool.store.find(plan)) is not None]
        end = self.task.total_steps
        return Trial(
            setting,
            averaged=statistics.fmean(run.averaged[end] for run in runs),
            raw=statistics.fmean(run.raw[end] for run in runs),
        )

    def _rival(self, tuned: Mapping[str, Tuned]) -> str:
        """The best arm without nowcasting; AdamW, where nothing was tuned."""

        def score(name: str) -> float:
            return min((trial.score for trial in tuned[name].trials), default=math.inf)

        plain = [arm.name for arm in self.arms if not arm.nowcasts]
        return min(sorted(plain, key=lambda name: name != REFERENCE), key=score)

    def _plan(
        self, arm: Arm, setting: Setting, seed: int, steps: int, split: HeldOut, curve: ReadOutName | None
    ) -> RunPlan:
        return RunPlan(self.task, arm, setting.lr, setting.option, seed, steps, split, curve, self.device)

    def _compared(self, arm: Arm, tuned: Tuned, seed: int, steps: int) -> RunPlan:
        return self._plan(arm, tuned.setting, seed, steps, "test", tuned.read_out)

    def _plans(self, arm: Arm, tuned: Tuned, rival: str) -> list[RunPlan]:
        return [self._compared(arm, tuned, seed, steps) for seed in self.seeds for steps in self._lengths(arm, rival)]

    def _lengths(self, arm: Arm, rival: str) -> tuple[int, ...]:
        """How long an arm's runs are: what others are read against goes on for twice the task's steps."""
        most = 2 * self.task.total_steps if arm.name in (REFERENCE, rival) else self.task.total_steps
        return tuple(sorted({*self._budgets, most})) if arm.depends_on_budget else (most,)

    def _result(self, arm: Arm, tuned: Tuned, rival: str, run: Callable[[RunPlan], ArmRun]) -> ArmResult:
        lengths = self._lengths(arm, rival)
        runs = {steps: [run(self._compared(arm, tuned, seed, steps)) for seed in self.seeds] for steps in lengths}

        def after(budget: int, read_out: ReadOutName) -> tuple[float, ...]:
            return tuple(each.losses(read_out)[budget] for each in runs[budget if budget in runs else lengths[-1]])

        whole = runs[self.task.total_steps if self.task.total_steps in runs else lengths[-1]]
        if arm.depends_on_budget and lengths[-1] > self.task.total_steps:
            # The rival is another training for every budget: its curve goes from budget to budget.
            curve = Curve(lengths, tuple(zip(*(after(steps, tuned.read_out) for steps in lengths), strict=True)))
        else:
            curve = _curve(whole, tuned.read_out)
        return ArmResult(
            name=arm.name,
            description=arm.description,
            nowcasts=arm.nowcasts,
            tuned=tuned,
            averaged={budget: after(budget, "averaged") for budget in self._budgets},
            raw={budget: after(budget, "raw") for budget in self._budgets},
            curve=curve,
            raw_curve=_curve(whole, "raw") if arm.name == REFERENCE else None,
            jumps=tuple(event.step for event in whole[0].events if event.accepted),
            refused=sum(not event.accepted for each in whole for event in each.events),
        )


def _curve(runs: Sequence[ArmRun], read_out: ReadOutName) -> Curve:
    losses = [run.losses(read_out) for run in runs]
    return Curve(tuple(losses[0]), tuple(tuple(each.values()) for each in losses))
