"""One training of a task by an arm, scored on its way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from ninokit.benchmarks.arms import Arm, Recipe, Trainer
from ninokit.benchmarks.arms.adamw import ADAMW
from ninokit.benchmarks.task import ClassificationData, HeldOut, Task
from ninokit.benchmarks.training import batches
from ninokit.training import NowcastEvent

__all__ = ["ArmRun", "ReadOutName", "RunPlan", "begin", "train_arm", "train_step"]

# Which weights are scored: the running average, or those that are trained.
ReadOutName: TypeAlias = Literal["averaged", "raw"]

# Raised when a run's numbers would come out different from those of the same settings before.
_FORMAT = 1
_EVALUATIONS = 40  # of a run as long as the task's
_STATISTICS_BATCHES = 10  # over which BatchNorm statistics are collected for the averaged weights


@dataclass(frozen=True)
class RunPlan:
    """A run that is wanted.

    Args:
        task: what to train; its ``total_steps`` set the window of the average and the distance of evaluations.
        arm: how.
        lr: learning rate, above 0.
        option: the value of the arm's option; None where it has none.
        seed: of the initial weights and of the order of the batches.
        steps: optimizer steps of this run, which a schedule falls over, at least 1.
        split: what it is scored on.
        curve: the read-out that is scored at every evaluation; the other one is at the quarters of the task's steps.
            None scores both, at the last step alone.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """

    task: Task
    arm: Arm
    lr: float
    option: float | None
    seed: int
    steps: int
    split: HeldOut
    curve: ReadOutName | None
    device: str = "cpu"

    @property
    def window(self) -> int:
        """Optimizer steps that the average spans: a tenth of the task's."""
        return max(1, self.task.total_steps // 10)

    @property
    def eval_every(self) -> int:
        """Optimizer steps between two evaluations."""
        return max(1, self.task.total_steps // _EVALUATIONS)

    @property
    def evaluations(self) -> Mapping[ReadOutName, list[int]]:
        """The steps at which each read-out is scored, ascending."""
        if self.curve is None:
            return {"averaged": [self.steps], "raw": [self.steps]}
        total = self.task.total_steps
        quarters = {max(1, total // 4), max(1, total // 2), total, self.steps}
        dense = {*range(self.eval_every, self.steps + 1, self.eval_every), *quarters}
        other: ReadOutName = "raw" if self.curve == "averaged" else "averaged"
        # What its average alone saves is read on the curve of AdamW's trained weights.
        scored = {self.curve: dense, other: dense if self.arm is ADAMW else quarters}
        return {read_out: sorted(step for step in steps if step <= self.steps) for read_out, steps in scored.items()}

    @property
    def file(self) -> Path:
        """Where the run is kept, relative to the folder of all runs."""
        option = "" if self.option is None else f"-{self.option:g}"
        period = f"-p{self.task.period}" if self.arm.nowcasts else ""
        weights = "" if self.arm.weights_sha256 is None else f"-{self.arm.weights_sha256[:8]}"
        curve = "" if self.curve is None else f"-{self.curve}"
        return Path(
            f"{self.task.name}-{self.task.total_steps}",
            f"{self.arm.name}{weights}-lr{self.lr:g}{option}{period}-{self.steps}-{self.split}{curve}"
            f"-seed{self.seed}.json",
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, but for the machine, the data, and the code of ninokit and of the task."""
        task = self.task
        return {
            "format": _FORMAT,
            "task": task.name,
            "weight_decay": task.weight_decay,
            "batch_size": task.batch_size,
            "period": task.period if self.arm.nowcasts else None,
            "window": self.window,
            "evaluations": dict(self.evaluations),
            "arm": self.arm.name,
            "weights_sha256": self.arm.weights_sha256,
            "lr": self.lr,
            "option": self.option,
            "seed": self.seed,
            "steps": self.steps,
            "split": self.split,
            "curve": self.curve,
        }


@dataclass(frozen=True)
class ArmRun:
    """A finished run.

    Args:
        averaged: step → the loss at the averaged weights, in nats; NaN or infinite if training diverged.
        raw: the same at the trained weights.
        events: the nowcasts, in order.
    """

    averaged: Mapping[int, float]
    raw: Mapping[int, float]
    events: tuple[NowcastEvent, ...] = ()

    def losses(self, read_out: ReadOutName) -> Mapping[int, float]:
        """Step → loss at one of the two read-outs."""
        return self.averaged if read_out == "averaged" else self.raw


def train_arm(plan: RunPlan, data: ClassificationData, *, show_progress: bool = True) -> ArmRun:
    """Train once and score on the way.

    torch's global random state is as before when this returns.

    Args:
        plan: of the run.
        data: the task's, on any device.
        show_progress: with a bar, if the output is a terminal.

    Returns:
        The run.

    Raises:
        UnsuitedArmError: the arm can't train this network.

    Example:
        >>> from ninokit.benchmarks.arms import find_arm
        >>> from ninokit.benchmarks.tasks.digits import DIGITS_MLP
        >>> plan = RunPlan(DIGITS_MLP, find_arm("adamw"), 0.008, None, seed=0, steps=30, split="test", curve="averaged")
        >>> list(train_arm(plan, DIGITS_MLP.load_data(None)).averaged)
        [15, 30]
    """
    device = torch.device(plan.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(plan.seed)
        data = data.to(device)
        model, trainer = begin(plan, data)
        try:
            return _train(plan, data, model, trainer, show_progress)
        finally:
            trainer.close()


def begin(plan: RunPlan, data: ClassificationData) -> tuple[nn.Module, Trainer]:
    """The network of a run and its trainer, before the first step.

    Args:
        plan: of the run.
        data: the task's, on the run's device.

    Returns:
        Both; the trainer is to be closed at the end.

    Raises:
        UnsuitedArmError: the arm can't train this network.
    """
    model = plan.task.build_from(data).to(plan.device)
    recipe = Recipe(
        lr=plan.lr,
        weight_decay=plan.task.weight_decay,
        steps=plan.steps,
        period=plan.task.period,
        window=plan.window,
        option=plan.option,
        example_inputs=plan.task.example_inputs(),
    )
    return model, plan.arm.begin(model, recipe)


def _train(plan: RunPlan, data: ClassificationData, model: nn.Module, trainer: Trainer, show_progress: bool) -> ArmRun:
    stream = batches(data, plan.task.batch_size, plan.seed)
    evaluations = plan.evaluations
    losses: dict[ReadOutName, dict[int, float]] = {"averaged": {}, "raw": {}}
    title = f"{plan.task.name} {plan.arm.name} seed {plan.seed}"
    # disable=None: no bar where the output is not a terminal.
    with tqdm(total=plan.steps, desc=title, unit="step", disable=None if show_progress else True) as bar:
        for start, end in pairwise([0, *sorted({*evaluations["averaged"], *evaluations["raw"]})]):
            for inputs, labels in islice(stream, end - start):
                train_step(plan.task, model, trainer, inputs, labels)
            bar.update(end - start)
            if end in evaluations["averaged"]:
                with trainer.averaged(_for_statistics(model, data, plan)):
                    losses["averaged"][end] = plan.task.held_out_loss(model, data, plan.split)
            if end in evaluations["raw"]:
                with trainer.raw():
                    losses["raw"][end] = plan.task.held_out_loss(model, data, plan.split)
    return ArmRun(losses["averaged"], losses["raw"], trainer.events)


def train_step(task: Task, model: nn.Module, trainer: Trainer, inputs: Tensor, labels: Tensor) -> None:
    """One step of a training.

    Args:
        task: whose loss is trained.
        model: the network.
        trainer: of its parameters.
        inputs: of the batch.
        labels: of the batch.
    """
    trainer.zero_grad()
    task.loss(model, inputs, labels).backward()
    trainer.step()


def _for_statistics(model: nn.Module, data: ClassificationData, plan: RunPlan) -> Iterator[Tensor] | None:
    """The inputs of a few batches of another order than the training's, where a BatchNorm needs them."""
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return None
    stream = batches(data, plan.task.batch_size, plan.seed + 1)
    return (inputs for inputs, _ in islice(stream, _STATISTICS_BATCHES))
