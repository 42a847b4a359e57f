"""Measure what a nowcaster saves, task by task and seed by seed, against AdamW and other nowcasters."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ninokit._optional import require
from ninokit.benchmarks.compare import find_task
from ninokit.benchmarks.data import load_data
from ninokit.benchmarks.device import check_device, torch_threads
from ninokit.benchmarks.evaluation.contenders import ADAMW, TUNED, Contender, load_contenders
from ninokit.benchmarks.evaluation.plot import plot_savings
from ninokit.benchmarks.evaluation.processes import train_in_processes
from ninokit.benchmarks.evaluation.report import format_evaluation
from ninokit.benchmarks.evaluation.results import Evaluation, Method, TaskResult, Trial, joined, write_evaluation
from ninokit.benchmarks.evaluation.runs import FinishedRun, RunStore, TrainingPlan, plan_run, runs_folder
from ninokit.benchmarks.evaluation.settings import EvaluateConfig
from ninokit.benchmarks.evaluation.tuning import candidates, choose
from ninokit.benchmarks.plot import plot_runs
from ninokit.benchmarks.report import write_text
from ninokit.benchmarks.summary import costs_to_target
from ninokit.benchmarks.task import Task
from ninokit.benchmarks.training import check_attachable, nowcast_with
from ninokit.errors import ConfigError
from ninokit.zoo import Run
from ninokit.zoo.card import add_measurements, to_milliseconds

__all__ = ["evaluate"]

_log = logging.getLogger(__name__)


def evaluate(nowcaster: str, config: EvaluateConfig) -> Evaluation:
    """Train every task with AdamW, with AdamW tuned, and with each nowcaster, over the same seeds.

    In the folder ``config.out`` every finished run is kept under ``runs/``; the same call, or one with more tasks,
    seeds or nowcasters, trains only what is not there. After every task ``evaluation.json``, ``evaluation.md``,
    ``savings.png`` and the task's curves are replaced.

    Args:
        nowcaster: what the evaluation is about: as `ninokit.nowcasters.load` takes it.
        config: the settings.

    Returns:
        What was found.

    Raises:
        ConfigError: a setting does not fit, or a run of other settings is there.
        CheckpointError: a nowcaster can't be loaded.
        DatasetError: a task's data is not there.
        ArchitectureError: a nowcaster needs a neural graph, and no architecture encodes a task's network.
        DependencyError: an optional package is missing.

    Example:
        >>> config = EvaluateConfig(tasks=["digits_mlp"], against=[], seeds=[0], out="runs/digits")
        >>> evaluate("linefit", config).tasks[0].rows("AdamW", "linefit")  # doctest: +SKIP
    """
    # Asked before hours of training, not after them.
    require("matplotlib.figure", "the pictures of an evaluation")
    check_device(config.device)
    _check_seeds(config)
    tasks = [find_task(name) for name in config.tasks]
    contenders = load_contenders([nowcaster, *config.against])
    for task in tasks:
        _check_before_training(task, contenders, config)
    if config.workers > 1:
        _train_side_by_side(tasks, contenders, config)
    with torch_threads(config.threads):
        evaluation = _evaluate(tasks, contenders, config)
    card_path = contenders[0].card_path
    if config.write_card and card_path is not None:
        _write_card(card_path, evaluation, config)
    return evaluation


def _check_before_training(task: Task, contenders: Sequence[Contender], config: EvaluateConfig) -> None:
    """Say what can't be before hours of training: no data, or a network that a nowcaster can't be attached to."""
    work = _TaskEvaluation(task, contenders, config, lambda runs: None)
    missing = [plan for plan in work.plans() if work.store.find(plan) is None]
    if missing:
        load_data(task, config.data_root, "cpu")
    for nowcaster in {plan.contender.name: plan.contender.nowcaster for plan in missing if plan.contender}.values():
        check_attachable(task, nowcast_with(nowcaster, task))


def _write_card(path: Path, evaluation: Evaluation, config: EvaluateConfig) -> None:
    if config.max_steps is not None:
        _log.warning("%s: left as it is, as runs of max_steps=%d say little; leave it out", path, config.max_steps)
        return
    try:
        add_measurements(path, evaluation.measurements())
    except OSError as error:
        _log.warning("%s: can't be written (%s); what was measured is in %s alone", path, error.strerror, config.out)
    else:
        _log.info("%s has what was measured", path)


def _check_seeds(config: EvaluateConfig) -> None:
    both = sorted(set(config.seeds) & set(config.tuning_seeds))
    if both and config.lr_factors:
        raise ConfigError(
            "tuning_seeds: must be none of seeds, or the learning rate is chosen on what it is judged by; got "
            f"{both} in both"
        )


def _train_side_by_side(tasks: Sequence[Task], contenders: Sequence[Contender], config: EvaluateConfig) -> None:
    """Train what is not there of all tasks, so that `_evaluate` finds it."""
    works = [_TaskEvaluation(task, contenders, config, lambda runs: None) for task in tasks]
    train_in_processes([plan for work in works for plan in work.plans()], config)
    train_in_processes([plan for work in works for plan in work.tuned_plans()], config)


def _evaluate(tasks: Sequence[Task], contenders: Sequence[Contender], config: EvaluateConfig) -> Evaluation:
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    environments: list[Any] = []
    trained_on = {
        each.name: tuple(task.task for task in each.card.trained_on) for each in contenders if each.card is not None
    }
    evaluation = Evaluation(contenders[0].name, asdict(config), {}, trained_on, ())
    # disable=None: no bar where the output is not a terminal.
    with tqdm(total=len(tasks) * _runs_a_task(contenders, config), unit="run", disable=None) as bar:
        for task in tasks:
            work = _TaskEvaluation(task, contenders, config, bar.update)
            result = work.finish()
            environments += work.environments
            evaluation = replace(evaluation, environment=joined(environments), tasks=(*evaluation.tasks, result))
            _write(evaluation, work, folder)
    return evaluation


def _runs_a_task(contenders: Sequence[Contender], config: EvaluateConfig) -> int:
    tuned = len(config.lr_factors) > 0
    trials = (len(config.lr_factors) + 1) * len(config.tuning_seeds) * tuned
    return trials + (1 + tuned + len(contenders)) * len(config.seeds)


def _write(evaluation: Evaluation, work: _TaskEvaluation, folder: Path) -> None:
    write_evaluation(evaluation, folder / "evaluation.json")
    write_text(folder / "evaluation.md", format_evaluation(evaluation))
    plot_savings(evaluation, folder / "savings.png")
    task = work.task
    plot_runs(
        {name: [run.record for run in runs] for name, runs in work.runs.items()},
        folder / f"{task.name}.png",
        title=f"{task.name}: AdamW with and without nowcasting",
        metric=task.metric.name,
        target=task.target,
        better=task.metric.better,
    )
    _log.info("%s is finished; see %s", task.name, folder)


class _TaskEvaluation:
    """The evaluation of one task on its way."""

    def __init__(
        self, task: Task, contenders: Sequence[Contender], config: EvaluateConfig, advance: Callable[[int], object]
    ) -> None:
        self.task = task
        self.contenders = contenders
        self.config = config
        self.advance = advance
        self.store = RunStore(runs_folder(config))
        self.load_data = cache(partial(load_data, task, config.data_root, config.device))
        self.runs: dict[str, list[FinishedRun]] = {}
        self.environments: list[Any] = []

    def plans(self) -> list[TrainingPlan]:
        """All runs but those of the tuned learning rate, which they decide."""
        tuning = [self._plan(lr, seed) for lr in self._candidates() for seed in self.config.tuning_seeds]
        methods: list[Contender | None] = [None, *self.contenders]
        return tuning + [self._plan(self.task.lr, seed, each) for each in methods for seed in self.config.seeds]

    def tuned_plans(self) -> list[TrainingPlan]:
        """The runs of the tuned learning rate, once the others are there."""
        trials = self._trials()
        return [self._plan(self._tuned(trials), seed) for seed in self.config.seeds] if trials else []

    def finish(self) -> TaskResult:
        methods = [self._method(ADAMW, self.task.lr)]
        trials = self._trials()
        if trials:
            methods.append(self._method(TUNED, self._tuned(trials)))
        methods += [self._method(each.name, self.task.lr, each) for each in self.contenders]
        return TaskResult(
            task=self.task.name,
            metric=self.task.metric.name,
            target=self.task.target,
            period=self.task.period,
            seeds=tuple(self.config.seeds),
            methods=tuple(methods),
            environment=joined(self.environments),
            trials=trials,
        )

    def _candidates(self) -> list[float]:
        return candidates(self.task.lr, self.config.lr_factors) if self.config.lr_factors else []

    def _trials(self) -> tuple[Trial, ...]:
        return tuple(map(self._trial, self._candidates()))

    def _tuned(self, trials: Sequence[Trial]) -> float:
        return choose(trials, self.task.metric.better).lr

    def _method(self, name: str, lr: float, contender: Contender | None = None) -> Method:
        self.runs[name] = [self._run(lr, seed, contender) for seed in self.config.seeds]
        distribution = None if contender is None else contender.distribution_of(self.task.name)
        return Method(name, lr, tuple(map(self._costs, self.runs[name])), distribution)

    def _trial(self, lr: float) -> Trial:
        runs = [self._run(lr, seed) for seed in self.config.tuning_seeds]
        scores = [[point.score for point in run.record.points if math.isfinite(point.score)] for run in runs]
        best = [self.task.metric.better.best(each) for each in scores if each]
        return Trial(lr, tuple(map(self._costs, runs)), statistics.median(best) if len(best) == len(runs) else None)

    def _run(self, lr: float, seed: int, contender: Contender | None = None) -> FinishedRun:
        run = self.store.get(self._plan(lr, seed, contender), self.load_data)
        self.environments.append(run.environment)
        self.advance(1)
        return run

    def _plan(self, lr: float, seed: int, contender: Contender | None = None) -> TrainingPlan:
        return plan_run(self.config, replace(self.task, lr=lr), seed, contender)

    def _costs(self, run: FinishedRun) -> Run:
        steps, seconds = costs_to_target(run.record, self.task.target, self.task.metric.better)
        return Run(steps=int(steps.value), seconds=to_milliseconds(seconds.value), reached=steps.reached)
