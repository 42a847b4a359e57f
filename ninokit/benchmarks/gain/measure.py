"""Build the banks of a training, run the trials, and read the steps gained on the curves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from ninokit.benchmarks.crossings import lasting_crossing
from ninokit.benchmarks.gain.bank import Bank, Curve, build_bank, calibration_batches, extended
from ninokit.benchmarks.gain.jumps import Jumper
from ninokit.benchmarks.gain.plan import GainPlan, Inputs, Piece
from ninokit.benchmarks.gain.store import BankFolder
from ninokit.benchmarks.gain.table import GainRow, GainTable
from ninokit.benchmarks.gain.training import Make, Training, made
from ninokit.benchmarks.gain.trials import Outcome, Trial, run_trial, trials_at
from ninokit.nowcasters import LineFit, Nowcaster

__all__ = ["HORIZONS", "CurveOf", "Outcomes", "TrialsOf", "curve_of", "gain", "measure", "trial_stream", "trials_of"]

_log = logging.getLogger(__name__)

HORIZONS = (2, 5, 10, 20, 40)
_LINE = LineFit()
Outcomes = Mapping[Trial, Outcome]
TrialsOf = Callable[[Piece], Outcomes]
CurveOf = Callable[[tuple[Piece, float]], Curve]
# As the built-in map, or that of a pool of processes.
_Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def gain(
    make: Make,
    nowcasters: Mapping[str, Nowcaster],
    *,
    period: int,
    times: Sequence[int],
    name: str = "training",
    horizons: Sequence[int] = HORIZONS,
    rates: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0,),
    inputs: Sequence[Inputs] = ("states", "means"),
    recovery: int = 100,
    earlier: Nowcaster | None = _LINE,
    earlier_horizon: int = 5,
) -> GainTable:
    """How many steps a jump gains, at several times of a training of your own.

    Each training is done once without jumps and once with earlier ones, and is kept in the cache with the outcomes of
    the trials; the same call, or one with more nowcasters, goes on from there. Only trials of nowcasters of your own
    that have no weights are run each time.

    Args:
        make: seed → a new training; torch's random state is set from the seed before it is called.
        nowcasters: name → nowcaster, at least one. A `LineFit` looks ahead as far as is asked, whatever its limit.
        period: optimizer steps between nowcasts, at least every nowcaster's context.
        times: steps at which trials begin, whole periods.
        name: what the folder in the cache is called by.
        horizons: of the jumps, from 1; a nowcaster leaves out those that it can't reach.
        rates: multiples of the optimizer's learning rates.
        seeds: a training each.
        inputs: what the nowcasters are shown: past ``"states"``, the ``"means"`` of the weights between them, or both.
        recovery: steps of a trial after the jump, at least 50: the weights are averaged over the last 50.
        earlier: the nowcaster that jumps every period before the checkpoints; None has no such checkpoints.
        earlier_horizon: of those jumps.

    Returns:
        The table. A trial whose forecast failed, for instance as no architecture encodes the network, is a row with the
        reason.

    Raises:
        ConfigError: a setting is out of its range.
    """
    plan = GainPlan(
        name=name,
        nowcasters=nowcasters,
        period=period,
        times=times,
        horizons=horizons,
        rates=rates,
        seeds=seeds,
        inputs=inputs,
        recovery=recovery,
        earlier=earlier,
        earlier_horizon=earlier_horizon,
    )
    return measure(plan, partial(trials_of, make, plan), partial(curve_of, make, plan))


def measure(plan: GainPlan, trials: TrialsOf, curve: CurveOf, run: _Map = map) -> GainTable:
    """All of a plan.

    Args:
        plan: what is to be measured.
        trials: a piece → what came of its trials; see `trials_of`.
        curve: a piece without earlier jumps and a loss → its curve, down to that loss if it gets there; see `curve_of`.
        run: applies one of the two to many, in their order.

    Returns:
        The table.
    """
    # disable=None: no bar where the output is not a terminal.
    with tqdm(total=len(plan.pieces), desc=f"gain {plan.name}", unit="training", disable=None) as bar:
        outcomes: dict[Piece, Outcomes] = {}
        for piece, found in zip(plan.pieces, run(trials, plan.pieces), strict=True):
            outcomes[piece] = found
            bar.update()
    plain = [piece for piece in plan.pieces if not piece.earlier]
    levels = [_lowest(outcomes, piece) for piece in plain]
    curves = dict(zip(plain, run(curve, zip(plain, levels, strict=True)), strict=True))
    rows = [
        _row(piece, trial, outcome, curves[Piece(piece.rate, piece.seed, False)], plan.recovery)
        for piece, found in outcomes.items()
        for trial, outcome in found.items()
    ]
    return GainTable(plan.name, plan.period, plan.recovery, tuple(plan.horizons), tuple(rows))


def _lowest(outcomes: Mapping[Piece, Outcomes], plain: Piece) -> float:
    """The lowest loss of all trials that are read on the curve of a training."""
    found = [outcomes[p] for p in outcomes if (p.rate, p.seed) == (plain.rate, plain.seed)]
    losses = [outcome.loss for each in found for outcome in each.values() if outcome.loss is not None]
    return min(losses, default=float("inf"))


def _row(piece: Piece, trial: Trial, outcome: Outcome, curve: Curve, recovery: int) -> GainRow:
    gained = bound = None
    if outcome.loss is not None:
        crossing = lasting_crossing(curve.steps, curve.losses, outcome.loss)
        gained, bound = crossing.step - (trial.time + recovery), crossing.bound
    return GainRow(**vars(piece), **vars(trial), gained=gained, bound=bound, **vars(outcome))


@dataclass(frozen=True)
class _Opened:
    training: Training
    folder: BankFolder
    bank: Bank


@contextmanager
def _opened(make: Make, plan: GainPlan, piece: Piece) -> Iterator[_Opened]:
    """A piece with its bank, which is built if it is not there; torch's random state is as before afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        training = made(make, piece.seed, piece.rate)
        folder = BankFolder(plan, piece, training)
        with folder.lock():
            bank = folder.load()
            if bank is None:
                folder.save(build_bank(training, plan, piece.seed, earlier=piece.earlier))
                bank = folder.load()
                assert bank is not None
            yield _Opened(training, folder, bank)


def trials_of(make: Make, plan: GainPlan, piece: Piece) -> dict[Trial, Outcome]:
    """What came of the trials of one piece; those that are in the cache are not run again.

    Args:
        make: makes the training.
        plan: what is to be measured.
        piece: the part of it.

    Returns:
        The outcomes.
    """
    began = time.perf_counter()
    with _opened(make, plan, piece) as opened:
        training, folder = opened.training, opened.folder
        jumper, calibration = Jumper(training), calibration_batches(training, piece.seed)
        outcomes: dict[Trial, Outcome] = {}
        for checkpoint in opened.bank.checkpoints:
            trials = trials_at(plan, checkpoint.snapshot.step)
            found = folder.outcomes(trials)
            stream = trial_stream(piece.seed, checkpoint.snapshot.step)
            new = {
                trial: run_trial(trial, plan, jumper, training, checkpoint, stream, calibration)
                for trial in trials
                if trial not in found
            }
            if new:
                folder.keep(new)
            outcomes |= {trial: (found | new)[trial] for trial in trials}
    _log.info("%s: %d trials of %s in %.1f s", plan.name, len(outcomes), piece, time.perf_counter() - began)
    return outcomes


def trial_stream(seed: int, step: int) -> int:
    """The seed of the batches of a checkpoint's trials: other ones than the training had, as these tell the noise.

    Args:
        seed: of the training.
        step: of the checkpoint.

    Returns:
        The seed, below 2**31, which every generator takes.
    """
    return (500_000_009 + 1_000_003 * seed + step) % 2**31


def curve_of(make: Make, plan: GainPlan, until: tuple[Piece, float]) -> Curve:
    """The curve of a training without jumps.

    Args:
        make: makes the training.
        plan: what is to be measured.
        until: the piece, and the loss that the curve shall come down to if it can.

    Returns:
        The curve.
    """
    piece, level = until
    with _opened(make, plan, piece) as opened:
        bank = extended(opened.bank, opened.training, plan, piece.seed, level)
        if bank is not opened.bank:
            opened.folder.save(bank)
        assert bank.curve is not None
        return bank.curve
