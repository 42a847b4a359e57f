"""The steps gained, trial by trial and in the mean, for machines and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Optional

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ninokit.benchmarks.gain.plan import NO_JUMP, Inputs
from ninokit.benchmarks.report import write_text
from ninokit.benchmarks.summary import aligned_table
from ninokit.errors import ConfigError

__all__ = ["GainRow", "GainTable", "MeanGain", "describe_kind", "read_gain", "write_gain"]

_RESAMPLES = 10_000
_NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class GainRow:
    """A trial.

    Args:
        rate: multiple of the learning rates.
        seed: of the training.
        earlier: whether its training jumped before.
        time: step of the checkpoint.
        nowcaster: its name, or ``no jump``.
        inputs: what it was shown; None without a jump.
        horizon: how many states ahead; None without a jump.
        loss: the averaged validation loss at the end; None if there is none.
        gained: steps by which the training without jumps has this loss later; None without a loss.
        bound: ``≥`` where that training does not come to the loss, ``≤`` where it begins below it.
        reason: why there is no loss.
    """

    rate: float
    seed: int
    earlier: bool
    time: int
    nowcaster: str
    # pydantic reads the annotations at run time
    inputs: Optional[Inputs]  # noqa: UP045
    horizon: Optional[int]  # noqa: UP045
    loss: Optional[float]  # noqa: UP045
    gained: Optional[float]  # noqa: UP045
    bound: Optional[Literal["=", "≥", "≤"]]  # noqa: UP045
    reason: str


@dataclass(frozen=True)
class MeanGain:
    """The steps gained in the mean of some trials.

    Args:
        mean: of those that were not refused; a gain known by a bound counts as the bound.
        low: of the 95 % interval, as many resamples of the trials have it.
        high: of the interval; both are the mean where there is one trial.
        bound: ``≥`` or ``≤`` if a gain of the trials is known by that bound, ``?`` if both occur.
        trials: how many are in the mean.
        refused: how many are not, as there is no loss.
    """

    mean: float
    low: float
    high: float
    bound: Literal["=", "≥", "≤", "?"]
    trials: int
    refused: int

    @classmethod
    def of(cls, rows: Sequence[GainRow]) -> MeanGain | None:
        """The mean of some trials.

        Args:
            rows: of the trials.

        Returns:
            The mean; None if no trial has a gain.

        Example:
            >>> rows = [
            ...     GainRow(rate=1.0, seed=0, earlier=False, time=200, nowcaster="linefit", inputs="states", horizon=2,
            ...             loss=0.5, gained=gained, bound="=", reason="")
            ...     for gained in (20.0, 40.0)
            ... ]
            >>> MeanGain.of(rows)
            MeanGain(mean=30.0, low=20.0, high=40.0, bound='=', trials=2, refused=0)
        """
        gains = np.array([row.gained for row in rows if row.gained is not None])
        if not len(gains):
            return None
        resamples = np.random.default_rng(0).choice(gains, (_RESAMPLES, len(gains))).mean(axis=1)
        low, high = np.percentile(resamples, [2.5, 97.5])
        bounds = {row.bound for row in rows if row.bound is not None} - {"="}
        bound: Literal["=", "≥", "≤", "?"] = "?" if len(bounds) > 1 else next(iter(bounds), "=")
        return cls(float(gains.mean()), float(low), float(high), bound, len(gains), len(rows) - len(gains))


@dataclass(frozen=True)
class GainTable:
    """The steps gained by the jumps of some nowcasters.

    Args:
        name: of the training.
        period: optimizer steps between nowcasts; a unit of the horizon is a part of it.
        recovery: steps of a trial after the jump.
        horizons: of the jumps, in the order of the columns.
        rows: all trials.
    """

    name: str
    period: int
    recovery: int
    horizons: tuple[int, ...]
    rows: tuple[GainRow, ...]

    @property
    def kinds(self) -> list[tuple[float, bool]]:
        """Rates, and whether there were earlier jumps: one table each."""
        return list(dict.fromkeys((row.rate, row.earlier) for row in self.rows))

    @property
    def methods(self) -> list[tuple[str, Inputs]]:
        """Nowcasters, and what each was shown."""
        return list(dict.fromkeys((row.nowcaster, row.inputs) for row in self.rows if row.inputs is not None))

    def trials(
        self, *, rate: float, earlier: bool, nowcaster: str, inputs: Inputs | None, horizon: int | None
    ) -> list[GainRow]:
        """The trials of one kind, over all times and seeds.

        Args:
            rate: multiple of the learning rates.
            earlier: whether the training jumped before.
            nowcaster: its name, or ``no jump``.
            inputs: what it was shown; None without a jump.
            horizon: of the jump; None without a jump.

        Returns:
            The rows; none if the nowcaster can't look so far ahead.
        """
        kind = (rate, earlier, nowcaster, inputs, horizon)
        return [r for r in self.rows if (r.rate, r.earlier, r.nowcaster, r.inputs, r.horizon) == kind]

    def mean(
        self, *, rate: float, earlier: bool, nowcaster: str, inputs: Inputs | None, horizon: int | None
    ) -> MeanGain | None:
        """The mean over all times and seeds, see `trials` for the arguments; None if no trial has a gain."""
        rows = self.trials(rate=rate, earlier=earlier, nowcaster=nowcaster, inputs=inputs, horizon=horizon)
        return MeanGain.of(rows)

    def over_no_jump(
        self, *, rate: float, earlier: bool, nowcaster: str, inputs: Inputs | None, horizon: int | None
    ) -> MeanGain | None:
        """By how much more is gained than without a jump from the same checkpoint, in the mean.

        The trials of a checkpoint share their batches, so that much of the noise falls out of the difference. See
        `trials` for the arguments.

        Returns:
            The mean of the differences; None if no trial has a gain.
        """
        still = self.trials(rate=rate, earlier=earlier, nowcaster=NO_JUMP, inputs=None, horizon=None)
        twins = {(row.seed, row.time): row for row in still}
        rows = self.trials(rate=rate, earlier=earlier, nowcaster=nowcaster, inputs=inputs, horizon=horizon)
        return MeanGain.of([_difference(row, twins[row.seed, row.time]) for row in rows])

    def no_jump(self, rate: float, earlier: bool) -> MeanGain | None:
        """The mean of the trials without a jump: the noise, and after earlier jumps what these have gained."""
        return self.mean(rate=rate, earlier=earlier, nowcaster=NO_JUMP, inputs=None, horizon=None)

    def to_markdown(self) -> str:
        """The means for people: a table a rate, without and with earlier jumps.

        Returns:
            The tables in Markdown with titles, and a newline at the end. ``≥300`` stands for a mean with bounds in it,
            a dash for what can't be told.
        """
        times, seeds = (sorted({getattr(row, name) for row in self.rows}) for name in ("time", "seed"))
        parts = [
            f"# {self.name}: steps gained by a jump",
            f"After a jump and {self.recovery} steps: how much later the training without any jump has the same "
            f"averaged validation loss. Mean over the times {_listed(times)} and the seeds {_listed(seeds)}; in "
            "brackets the mean difference from the trial without a jump, ± half of its bootstrapped 95 % interval. "
            f"The period is {self.period} steps; horizons are in states.",
        ]
        for rate, earlier in self.kinds:
            title = describe_kind(rate, earlier)
            noise = f"No jump: {_with_interval(self.no_jump(rate, earlier))}."
            parts += [f"## {title[0].upper()}{title[1:]}", noise, _format_kind(self, rate, earlier)]
        return "\n\n".join(parts) + "\n"


def _difference(row: GainRow, twin: GainRow) -> GainRow:
    if row.gained is None or twin.gained is None:
        return replace(row, gained=None, bound=None)
    return replace(row, gained=row.gained - twin.gained)


def describe_kind(rate: float, earlier: bool) -> str:
    """A table's title, such as ``learning rate × 0.5, after earlier jumps``."""
    return f"learning rate × {rate:g}, " + ("after earlier jumps" if earlier else "no earlier jumps")


def _format_kind(table: GainTable, rate: float, earlier: bool) -> str:
    header = ("nowcaster", "from", *(f"horizon {horizon}" for horizon in table.horizons))
    body = [
        (nowcaster, inputs, *(_cell(table, rate, earlier, nowcaster, inputs, horizon) for horizon in table.horizons))
        for nowcaster, inputs in table.methods
    ]
    return aligned_table(header, body)


def _cell(table: GainTable, rate: float, earlier: bool, nowcaster: str, inputs: Inputs, horizon: int) -> str:
    rows = table.trials(rate=rate, earlier=earlier, nowcaster=nowcaster, inputs=inputs, horizon=horizon)
    mean = MeanGain.of(rows)
    if mean is None:
        return f"{_NOTHING} ({len(rows)} refused)" if rows else _NOTHING
    more = table.over_no_jump(rate=rate, earlier=earlier, nowcaster=nowcaster, inputs=inputs, horizon=horizon)
    refused = f" ({mean.refused} refused)" if mean.refused else ""
    if mean.bound == "?" or more is None:
        return _NOTHING + refused
    return f"{mean.bound.strip('=')}{round(mean.mean)} ({_with_interval(more)}){refused}"


def _with_interval(mean: MeanGain | None) -> str:
    if mean is None:
        return _NOTHING
    half = f" ± {(mean.high - mean.low) / 2:.0f}" if mean.trials > 1 else ""
    return f"{round(mean.mean)}{half}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def write_gain(table: GainTable, path: Path) -> None:
    """Write a table as JSON, replacing the file in one go.

    Args:
        table: what to write.
        path: the file; its folder must exist.
    """
    write_text(path, TypeAdapter(GainTable).dump_json(table, indent=1).decode() + "\n")


def read_gain(path: Path) -> GainTable:
    """Read what `write_gain` wrote.

    Args:
        path: the JSON file.

    Returns:
        The table.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        return TypeAdapter(GainTable).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"{path}: expected the gain.json that `ninokit gain` wrote; got {type(error).__name__}: {error}"
        ) from error
