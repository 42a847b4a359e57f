"""One training run of a task, with or without nowcasting, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, RandomSampler
from tqdm import tqdm

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.nowcasters import Nowcaster
from ninokit.training import NowcastEvent, Nowcasting
from ninokit.training import attach as attach_to

BASELINE = "baseline"
NOWCASTING = "nowcasting"

AttachNowcasting = Callable[[torch.optim.Optimizer, nn.Module], Nowcasting]


@dataclass(frozen=True)
class EvalPoint:
    """What was measured at one evaluation.

    Args:
        step: optimizer steps done, from 1.
        seconds: training time so far: nowcasting included, evaluation left out.
        train_loss: mean over the batches since the evaluation before; NaN or infinite if training diverged.
        score: the task's score on the test data; NaN or infinite if training diverged and the score is a loss.
    """

    step: int
    seconds: float
    train_loss: float
    score: float


@dataclass(frozen=True)
class RunRecord:
    """One finished training run.

    Args:
        method: ``"baseline"`` or ``"nowcasting"``.
        seed: of the initial weights and of the order of the batches.
        points: the evaluations, in order; at least one.
        events: the nowcasts, in order; none for the baseline.
    """

    method: str
    seed: int
    points: tuple[EvalPoint, ...]
    events: tuple[NowcastEvent, ...] = ()


def nowcast_with(nowcaster: Nowcaster, task: Task) -> AttachNowcasting:
    """Nowcasting as a task has it: every ``task.period`` steps, horizons planned for ``task.total_steps``.

    Args:
        nowcaster: what predicts.
        task: of the training.

    Returns:
        The method of a run, for `train`.
    """

    def attach(optimizer: torch.optim.Optimizer, model: nn.Module) -> Nowcasting:
        return attach_to(
            optimizer,
            model,
            nowcaster,
            example_inputs=task.example_inputs(),
            period=task.period,
            total_steps=task.total_steps,
        )

    return attach


def batch_orders(examples: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """The endless stream of batches' examples: every epoch a new permutation, its last batch possibly smaller.

    The order depends on the seed alone, not on torch's global random state, so that runs with and without
    nowcasting see the same batches.

    Args:
        examples: of the training data, at least 1.
        batch_size: examples a batch, at least 1.
        seed: of the permutations.

    Yields:
        Indices, int64 of shape (B,), on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    order = BatchSampler(RandomSampler(range(examples), generator=generator), batch_size, drop_last=False)
    while True:
        yield from map(torch.tensor, order)


def batches(data: ClassificationData, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The endless stream of training batches, in the order of `batch_orders`.

    Args:
        data: the training examples, on any device.
        batch_size: examples a batch, at least 1.
        seed: of the order.

    Yields:
        Inputs of shape (B, ...) and labels of shape (B,), on the data's device.
    """
    for which in batch_orders(len(data.train_inputs), batch_size, seed):
        yield data.train_inputs[which], data.train_labels[which]


def train(
    task: Task,
    data: ClassificationData,
    *,
    seed: int,
    device: str = "cpu",
    attach: AttachNowcasting | None = None,
    stop_at_target: bool = False,
) -> RunRecord:
    """Train the task's network once and measure it on the way.

    torch's global random state is as before when this returns.

    Args:
        task: what to train.
        data: the task's data, on any device.
        seed: of the initial weights and of the order of the batches.
        device: ``"cpu"`` or ``"cuda"``.
        attach: adds nowcasting to an optimizer and its network, and returns a `ninokit.Nowcasting`. None is
            the baseline. The time it takes counts as training time.
        stop_at_target: end the run at the first evaluation that reaches the task's target.

    Returns:
        The record, with an evaluation every ``task.eval_every`` steps and one at the last step.

    Example:
        >>> from ninokit.benchmarks.tasks.digits import DIGITS_MLP
        >>> from dataclasses import replace
        >>> record = train(replace(DIGITS_MLP, total_steps=20), DIGITS_MLP.load_data(None), seed=0)
        >>> [point.step for point in record.points]
        [10, 20]
    """
    target_device = torch.device(device)
    with torch.random.fork_rng(devices=[target_device] if target_device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _Run(task, data.to(target_device), seed, target_device, stop_at_target).finish(attach)


class _Run:
    """A training run on its way."""

    def __init__(
        self, task: Task, data: ClassificationData, seed: int, device: torch.device, stop_at_target: bool
    ) -> None:
        self.task = task
        self.stop_at_target = stop_at_target
        self.data = data
        self.seed = seed
        self.device = device
        self.model = task.build_from(data).to(device)
        self.optimizer = task.build_optimizer(self.model)
        self.batches = batches(data, task.batch_size, seed)
        self.step = 0
        self.seconds = 0.0

    def finish(self, attach: AttachNowcasting | None) -> RunRecord:
        started = self._now()
        nowcasting = None if attach is None else attach(self.optimizer, self.model)
        self.seconds = self._now() - started
        if nowcasting is None:
            return RunRecord(BASELINE, self.seed, tuple(self._points(BASELINE)))
        try:
            return RunRecord(NOWCASTING, self.seed, tuple(self._points(NOWCASTING)), tuple(nowcasting.events))
        finally:
            nowcasting.detach()

    def _points(self, method: str) -> Iterator[EvalPoint]:
        title = f"{self.task.name} {method} seed {self.seed}"
        # disable=None: no bar where the output is not a terminal.
        with tqdm(total=self.task.total_steps, desc=title, unit="step", disable=None) as bar:
            while self.step < self.task.total_steps:
                steps = min(self.task.eval_every, self.task.total_steps - self.step)
                loss = self._train_steps(steps)
                score = self.task.evaluate(self.model, self.data)
                bar.update(steps)
                bar.set_postfix(loss=f"{loss:.3g}", score=f"{score:.3f}")
                yield EvalPoint(self.step, self.seconds, loss, score)
                if self.stop_at_target and self.task.metric.better.reaches(score, self.task.target):
                    return

    def _train_steps(self, steps: int) -> float:
        """Train and add to the clock; returns the mean loss."""
        started = self._now()
        total = torch.zeros((), device=self.device)
        for _ in range(steps):
            total += self._train_step()
        self.step += steps
        self.seconds += self._now() - started
        return float(total) / steps

    def _train_step(self) -> Tensor:
        inputs, labels = next(self.batches)
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model, inputs, labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
