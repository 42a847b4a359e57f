"""A trial: restore a checkpoint, jump, train a hundred steps, and look at the averaged validation loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ninokit.benchmarks.gain.averages import BoxAverage, averaged_loss
from ninokit.benchmarks.gain.bank import train_on
from ninokit.benchmarks.gain.checkpoint import Checkpoint, trainable
from ninokit.benchmarks.gain.jumps import Jumper
from ninokit.benchmarks.gain.plan import BLOCK, NO_JUMP, WINDOW, GainPlan, Inputs
from ninokit.benchmarks.gain.training import Training
from ninokit.errors import ForecastError

__all__ = ["Outcome", "Trial", "run_trial", "trials_at"]


@dataclass(frozen=True)
class Trial:
    """A jump, or none.

    Args:
        time: step of the checkpoint.
        nowcaster: its name, or `NO_JUMP`.
        inputs: what the nowcaster is shown; None without a jump.
        horizon: how many states ahead; None without a jump.
    """

    time: int
    nowcaster: str = NO_JUMP
    inputs: Optional[Inputs] = None  # noqa: UP045 - pydantic reads the annotations at run time
    horizon: Optional[int] = None  # noqa: UP045


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Args:
        loss: the averaged validation loss at its end, finite; None if there is none.
        reason: why there is none.
    """

    loss: float | None
    reason: str = ""


def trials_at(plan: GainPlan, time: int) -> list[Trial]:
    """All trials from one checkpoint, the one without a jump first.

    Args:
        plan: what is to be measured.
        time: step of the checkpoint.

    Returns:
        The trials.
    """
    jumps = [
        Trial(time, name, inputs, horizon)
        for name in plan.nowcasters
        for inputs in plan.inputs
        for horizon in plan.horizons_of(name)
    ]
    return [Trial(time), *jumps]


def run_trial(
    trial: Trial,
    plan: GainPlan,
    jumper: Jumper,
    training: Training,
    checkpoint: Checkpoint,
    stream: int,
    calibration: Sequence[Any],
) -> Outcome:
    """Do it.

    Args:
        trial: what to do.
        plan: that it is a part of.
        jumper: of the training.
        training: made as the one that the checkpoint is of; it is trained.
        checkpoint: of the trial's time.
        stream: the seed of the batches.
        calibration: see `averaged_loss`.

    Returns:
        The loss, or why there is none: a forecast that was refused, or a training that diverged.
    """
    checkpoint.snapshot.restore(training)
    if trial.horizon is not None:
        reason = _refusal(trial, plan, jumper, checkpoint)
        if reason:
            return Outcome(None, reason)
    box = BoxAverage(trainable(training.model), BLOCK, WINDOW // BLOCK)

    def average(step: int) -> None:
        if step > plan.recovery - WINDOW:
            box.add()

    train_on(training, training.batches(stream), range(1, plan.recovery + 1), [average])
    loss = averaged_loss(training, box.means(), calibration)
    if math.isfinite(loss):
        return Outcome(loss)
    return Outcome(None, f"the validation loss is {loss} after {plan.recovery} steps")


def _refusal(trial: Trial, plan: GainPlan, jumper: Jumper, checkpoint: Checkpoint) -> str:
    """Jump; why it was refused, or nothing."""
    assert trial.horizon is not None
    nowcaster = plan.nowcaster(trial.nowcaster)
    states, means = (kept[nowcaster.context] for kept in (checkpoint.states, checkpoint.means))
    try:
        jumper.jump(nowcaster, trial.horizon, states, means if trial.inputs == "means" else states)
    except Exception as error:  # whatever a nowcaster does, the other trials go on
        return str(error) if isinstance(error, ForecastError) else f"{type(error).__name__}: {error}"
    return ""
