"""What a step and a nowcast of each arm take, measured in turns in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import Tensor
from tqdm import tqdm

from ninokit.benchmarks.arms import Arm
from ninokit.benchmarks.evaluation.results import ArmResult, Seconds, TaskResult
from ninokit.benchmarks.evaluation.run import RunPlan, begin, train_step
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.training import batches

__all__ = ["timed"]

_WARM_UP = 20  # steps of each arm
_TURNS = 30
_STEPS_A_TURN = 10
# A nowcast takes as long whatever its period; so short a one that there are some, and that most steps take no state.
_PERIOD = 40


@dataclass
class _Clock:
    """The seconds of one arm's steps and nowcasts."""

    steps: list[float] = field(default_factory=list)
    nowcasts: list[float] = field(default_factory=list)


def timed(result: TaskResult, task: Task, arms: Mapping[str, Arm], data: ClassificationData, device: str) -> TaskResult:
    """The result of a task, with what each arm's training takes.

    All arms take turns of a few steps, so that whatever else the machine does falls on all alike. Nothing else should
    run meanwhile. Evaluation is not part of it; the average of the weights is.

    Args:
        result: of the task.
        task: it.
        arms: by name, all of the result's.
        data: the task's, on the device.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The same with ``seconds``, which are medians.
    """
    clocks = {arm.name: _Clock() for arm in result.arms}
    works = [_steps(_plan(arm, arms[arm.name], task, device), data, clocks[arm.name]) for arm in result.arms]
    # disable=None: no bar where the output is not a terminal.
    for _ in tqdm(range(_TURNS), desc=f"{task.name}, seconds", unit="turn", disable=None):
        for work in works:
            next(work)
    for work in works:
        work.close()
    return replace(
        result, arms=tuple(replace(arm, seconds=_seconds(clocks[arm.name], len(arm.jumps))) for arm in result.arms)
    )


def _plan(arm: ArmResult, how: Arm, task: Task, device: str) -> RunPlan:
    return RunPlan(
        task=replace(task, period=_PERIOD),
        arm=how,
        lr=arm.tuned.setting.lr,
        option=arm.tuned.setting.option,
        seed=0,
        steps=task.total_steps,
        split="test",
        curve=None,
        device=device,
    )


def _steps(plan: RunPlan, data: ClassificationData, clock: _Clock) -> Generator[None, None, None]:
    """Train, a turn at a time."""
    stream = batches(data, plan.task.batch_size, plan.seed)
    model, trainer = begin(plan, data)
    try:
        for inputs, labels in islice(stream, _WARM_UP):
            train_step(plan.task, model, trainer, inputs, labels)
        while True:
            for inputs, labels in islice(stream, _STEPS_A_TURN):
                started = _now(inputs)
                train_step(plan.task, model, trainer, inputs, labels)
                clock.steps.append(_now(inputs) - started)
            clock.nowcasts = [event.seconds for event in trainer.events]
            yield
    finally:
        trainer.close()


def _seconds(clock: _Clock, nowcasts: int) -> Seconds:
    return Seconds(statistics.median(clock.steps), statistics.median(clock.nowcasts or [0.0]), nowcasts)


def _now(inputs: Tensor) -> float:
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter()
