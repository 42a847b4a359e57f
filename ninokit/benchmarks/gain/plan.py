"""What is to be measured: which trials, from which checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ninokit.benchmarks.gain.jumps import looking_ahead
from ninokit.errors import ConfigError
from ninokit.nowcasters import Nowcaster

__all__ = ["BLOCK", "NO_JUMP", "WINDOW", "GainPlan", "Inputs", "Piece"]

# What a nowcaster is shown: past states, or the means of the weights between them.
Inputs = Literal["states", "means"]
# The name of the trial that tells the noise.
NO_JUMP = "no jump"
# Steps over which the weights are averaged, and steps between two evaluations of the average.
WINDOW = 50
BLOCK = 25


@dataclass(frozen=True)
class Piece:
    """One training with its checkpoints, and all trials from them.

    Args:
        rate: multiple of the learning rates.
        seed: of the initial weights and of the batches.
        earlier: whether it jumps before its checkpoints too.
    """

    rate: float
    seed: int
    earlier: bool


@dataclass(frozen=True, kw_only=True)
class GainPlan:
    """All trials of a measurement.

    Args:
        name: of the training, which its folder is called by: letters, digits, ``_``, ``.`` and ``-``.
        nowcasters: name → nowcaster, at least one.
        period: optimizer steps between nowcasts, at least every nowcaster's context.
        times: steps at which trials begin, distinct whole periods.
        horizons: of the jumps, distinct, from 1 up; a nowcaster leaves out those that it can't reach.
        rates: multiples of the learning rates, distinct, above 0.
        seeds: a training each, distinct.
        inputs: what the nowcasters are shown.
        recovery: steps of a trial, at least `WINDOW`, over the last of which the weights are averaged.
        earlier: the nowcaster of the jumps before the checkpoints; None leaves checkpoints after jumps out.
        earlier_horizon: of those jumps.

    Raises:
        ConfigError: a setting is out of its range.
    """

    name: str
    nowcasters: Mapping[str, Nowcaster]
    period: int
    times: Sequence[int]
    horizons: Sequence[int]
    rates: Sequence[float]
    seeds: Sequence[int]
    inputs: Sequence[Inputs]
    recovery: int
    earlier: Nowcaster | None
    earlier_horizon: int

    def __post_init__(self) -> None:
        _check("name", self.name, "letters, digits, _, . and -", re.fullmatch(r"\w[\w.-]*", self.name) is not None)
        names = list(self.nowcasters)
        _check("nowcasters", names, f"at least one, none called {NO_JUMP!r}", bool(names) and NO_JUMP not in names)
        least = max(self.contexts)
        _check("period", self.period, f"at least {least} steps, one a state of the context", self.period >= least)
        whole = all(time > 0 and time % self.period == 0 for time in self.times)
        _check("times", self.times, f"whole periods of {self.period} steps, distinct", whole and _some(self.times))
        far = _some(self.horizons) and min(self.horizons) >= 1
        _check("horizons", self.horizons, "distinct whole numbers from 1", far)
        _check("rates", self.rates, "distinct numbers above 0", _some(self.rates) and min(self.rates) > 0)
        _check("seeds", self.seeds, "distinct whole numbers", _some(self.seeds))
        known = set(get_args(Inputs))
        _check("inputs", self.inputs, "states, means or both", _some(self.inputs) and set(self.inputs) <= known)
        _check("recovery", self.recovery, f"at least {WINDOW} steps, to average over", self.recovery >= WINDOW)
        self._check_reach()

    def _check_reach(self) -> None:
        if self.earlier is not None and not 1 <= self.earlier_horizon <= self._far(self.earlier).max_horizon:
            raise ConfigError(
                f"gain: earlier_horizon must be from 1 to {self.earlier.max_horizon}, as far as the nowcaster of the "
                f"earlier jumps can look; got {self.earlier_horizon}"
            )
        for name in self.nowcasters:
            if not self.horizons_of(name):
                raise ConfigError(
                    f"gain: the nowcaster {name!r} looks ahead by {self.nowcasters[name].max_horizon} states at most, "
                    f"and all horizons are longer: {list(self.horizons)}. Add a shorter one, or leave the nowcaster out"
                )

    @property
    def contexts(self) -> tuple[int, ...]:
        """How many past states are kept: a number a kind of nowcaster, ascending."""
        earlier = [] if self.earlier is None else [self.earlier]
        return tuple(sorted({nowcaster.context for nowcaster in [*self.nowcasters.values(), *earlier]}))

    @property
    def pieces(self) -> list[Piece]:
        """The trainings, those without earlier jumps first."""
        kinds = [False] if self.earlier is None else [False, True]
        return [Piece(rate, seed, kind) for kind in kinds for rate in self.rates for seed in self.seeds]

    def nowcaster(self, name: str) -> Nowcaster:
        """A nowcaster that can look as far ahead as its trials do."""
        return self._far(self.nowcasters[name])

    def horizons_of(self, name: str) -> list[int]:
        """The horizons that a nowcaster can reach."""
        return [horizon for horizon in self.horizons if horizon <= self.nowcaster(name).max_horizon]

    @property
    def reference(self) -> Nowcaster | None:
        """The nowcaster of the earlier jumps."""
        return None if self.earlier is None else self._far(self.earlier)

    def _far(self, nowcaster: Nowcaster) -> Nowcaster:
        return looking_ahead(nowcaster, max(*self.horizons, self.earlier_horizon))


def _some(values: Sequence[object]) -> bool:
    return 0 < len(values) == len(set(values))


def _check(setting: str, value: object, expected: str, valid: bool) -> None:
    if not valid:
        raise ConfigError(f"gain: {setting} must be {expected}; got {value!r}")
