"""The bank: one training with its checkpoints, and the curve of its averaged validation loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ninokit.benchmarks.crossings import lasting_crossing
from ninokit.benchmarks.gain.averages import BoxAverage, averaged_loss
from ninokit.benchmarks.gain.checkpoint import Checkpoint, ContextRecorder, Snapshot, trainable
from ninokit.benchmarks.gain.jumps import Jumper
from ninokit.benchmarks.gain.plan import BLOCK, WINDOW, GainPlan
from ninokit.benchmarks.gain.training import Training, train_step

__all__ = ["Bank", "Curve", "build_bank", "calibration_batches", "extended", "train_on"]

_log = logging.getLogger(__name__)

# Over so many batches BatchNorms take the statistics of averaged weights.
_CALIBRATION = 10
# Periods by which the curve runs over the last trial's end at first, and by which it then may grow.
_SPARE, _MOST_SPARE = 2, 10
# Streams of batches other than the run's own; below 2**31, which every generator takes as a seed.
_CALIBRATION_STREAM = 400_000_007
_Observer = Callable[[int], None]  # is called with the number of each step after it


@dataclass(frozen=True)
class Curve:
    """The validation loss of the weights averaged over the last `WINDOW` steps, every `BLOCK` steps.

    Args:
        steps: optimizer steps done, from `WINDOW`.
        losses: one a step; NaN or infinite if the training diverged.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]

    def reaches(self, level: float) -> bool:
        """Whether it comes to a level for good."""
        return lasting_crossing(self.steps, self.losses, level).bound != "≥"


@dataclass(frozen=True)
class Bank:
    """What trials need of one training.

    Args:
        checkpoints: one a time, ascending.
        curve: None of a training with jumps.
        resume: the state a block before the curve's end, from where it can go on; None of a training with jumps.
    """

    checkpoints: Sequence[Checkpoint]
    curve: Curve | None = None
    resume: Snapshot | None = None


def build_bank(training: Training, plan: GainPlan, seed: int, *, earlier: bool) -> Bank:
    """Train, and keep what trials need.

    Args:
        training: new; it is trained.
        plan: of the trials.
        seed: of the batches.
        earlier: whether the nowcaster of the earlier jumps is at work.

    Returns:
        The bank.
    """
    checkpoints = _CheckpointTaker(training, plan)
    stream = training.batches(seed)
    last = max(plan.times)
    if earlier:
        jumps = _EarlierJumps(training, plan, checkpoints)
        train_on(training, stream, range(1, last + 1), [checkpoints.after_step, jumps.after_step])
        return Bank(checkpoints.taken)
    curve = _CurveRecorder(training, seed)
    end = _blocks(last + plan.recovery + _SPARE * plan.period)
    resume = _train_to(end, training, stream, 1, [checkpoints.after_step, curve.after_step])
    return Bank(checkpoints.taken, curve.curve, resume)


def extended(bank: Bank, training: Training, plan: GainPlan, seed: int, level: float) -> Bank:
    """A bank whose curve reaches a level, if it does so within some periods more.

    Args:
        bank: of a training without jumps.
        training: made as the one that was trained for it; it is trained.
        plan: of the trials.
        seed: of the batches.
        level: the loss to reach.

    Returns:
        The same bank, or one with a longer curve.
    """
    last = _blocks(max(plan.times) + plan.recovery + _MOST_SPARE * plan.period)
    while bank.curve is not None and bank.resume is not None:
        begin = bank.resume.step + BLOCK
        if begin >= last or bank.curve.reaches(level):
            break
        end = min(last, _blocks(begin + _SPARE * plan.period))
        _log.info("the curve goes on from step %d to %d, to reach a loss of %.4f", begin, end, level)
        bank.resume.restore(training)
        stream = islice(training.batches(seed), bank.resume.step, None)
        curve = _CurveRecorder(training, seed)
        # The first block is trained again: the first mean after it needs its sum.
        resume = _train_to(end, training, stream, bank.resume.step + 1, [curve.after_step])
        longer = Curve(bank.curve.steps + curve.curve.steps, bank.curve.losses + curve.curve.losses)
        bank = replace(bank, curve=longer, resume=resume)
    return bank


def _train_to(
    end: int, training: Training, stream: Iterator[Any], first: int, observers: Sequence[_Observer]
) -> Snapshot:
    """Train; the state a block before the end."""
    train_on(training, stream, range(first, end - BLOCK + 1), observers)
    before = Snapshot.of(training, end - BLOCK)
    train_on(training, stream, range(end - BLOCK + 1, end + 1), observers)
    return before


def _blocks(step: int) -> int:
    """The end of the block that a step is in."""
    return math.ceil(step / BLOCK) * BLOCK


def train_on(training: Training, stream: Iterator[Any], steps: Iterable[int], observers: Sequence[_Observer]) -> None:
    """Train, and let others see every step.

    Args:
        training: it is trained.
        stream: of batches.
        steps: the numbers of the optimizer steps.
        observers: called with the number after each step, in their order.
    """
    for step in steps:
        train_step(training, next(stream))
        for observe in observers:
            observe(step)


def calibration_batches(training: Training, seed: int) -> list[Any]:
    """Training batches for the statistics of averaged weights, the same for the run and all its trials.

    Args:
        training: whose batches.
        seed: of the run.

    Returns:
        The batches.
    """
    return list(islice(training.batches((_CALIBRATION_STREAM + seed) % 2**31), _CALIBRATION))


class _CurveRecorder:
    """The averaged validation loss after every block."""

    def __init__(self, training: Training, seed: int) -> None:
        self._training = training
        self._calibration = calibration_batches(training, seed)
        self._box = BoxAverage(trainable(training.model), BLOCK, WINDOW // BLOCK)
        self._steps: list[int] = []
        self._losses: list[float] = []

    def after_step(self, step: int) -> None:
        self._box.add()
        if self._box.full:
            self._steps.append(step)
            self._losses.append(averaged_loss(self._training, self._box.means(), self._calibration))

    @property
    def curve(self) -> Curve:
        return Curve(tuple(self._steps), tuple(self._losses))


class _CheckpointTaker:
    """The checkpoints at the times of the plan."""

    def __init__(self, training: Training, plan: GainPlan) -> None:
        parameters = trainable(training.model)
        self.recorders = {context: ContextRecorder(parameters, plan.period, context) for context in plan.contexts}
        self.taken: list[Checkpoint] = []
        self._training = training
        self._times = set(plan.times)

    def after_step(self, step: int) -> None:
        for recorder in self.recorders.values():
            recorder.after_step(step)
        if step in self._times:
            states = {context: recorder.states for context, recorder in self.recorders.items()}
            means = {context: recorder.means for context, recorder in self.recorders.items()}
            self.taken.append(Checkpoint(Snapshot.of(self._training, step), states, means))


class _EarlierJumps:
    """A jump at the end of every period, after the checkpoint there."""

    def __init__(self, training: Training, plan: GainPlan, checkpoints: _CheckpointTaker) -> None:
        self._jumper = Jumper(training)
        self._plan = plan
        self._recorders = checkpoints.recorders

    def after_step(self, step: int) -> None:
        nowcaster = self._plan.reference
        if nowcaster is None or step % self._plan.period:
            return
        states = self._recorders[nowcaster.context].states
        try:
            self._jumper.jump(nowcaster, self._plan.earlier_horizon, states, states)
        except Exception as error:  # as in a user's training, which goes on whatever a nowcaster does
            _log.warning("step %d: the earlier jump was refused, the weights stay: %s", step, error)
