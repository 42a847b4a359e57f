"""The settings of ``ninokit gain``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ninokit.configuration import COUNT, DEVICE, SEEDS, are_seeds, at_least_one, is_device, positive, setting

__all__ = ["GainConfig"]

_STEPS = "a list of distinct whole numbers from 1"


def _are_counts(values: Sequence[int]) -> bool:
    return 0 < len(values) == len(set(values)) and min(values) >= 1


def _are_factors(values: Sequence[float]) -> bool:
    return 0 < len(values) == len(set(values)) and all(map(positive, values))


def _are_inputs(values: Sequence[str]) -> bool:
    return 0 < len(values) == len(set(values)) and set(values) <= {"states", "means"}


@dataclass(kw_only=True)
class GainConfig:
    """The settings of a measurement of the steps gained.

    Args:
        horizons: of the jumps, in states; a nowcaster leaves out those that it can't reach.
        rates: multiples of the task's learning rate.
        times: steps at which trials begin, whole periods of the task; None takes four, evenly over its training.
        seeds: a training each.
        inputs: what the nowcasters are shown: past states, means of the weights between them, or both.
        recovery: steps of a trial after the jump, at least 50.
        earlier: the nowcaster that jumps before the checkpoints; None leaves checkpoints after jumps out.
        earlier_horizon: of those jumps.
        data_root: folder of the data sets, for the tasks that read files.
        out: folder for the results; made if missing.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes that share the trainings.
        threads: CPU threads for torch in each process, at least 1; None divides the CPUs among them.
    """

    horizons: list[int] = setting([2, 5, 10, 20, 40], _STEPS, _are_counts)
    rates: list[float] = setting([0.5, 1.0, 2.0], "a list of distinct numbers above 0", _are_factors)
    # OmegaConf reads the annotations at run time; Optional is what all its versions know.
    times: Optional[list[int]] = setting(None, _STEPS, _are_counts)  # noqa: UP045
    seeds: list[int] = setting([0], SEEDS, are_seeds)
    inputs: list[str] = setting(["states", "means"], "states, means or both, in a list", _are_inputs)
    recovery: int = setting(100, "a whole number of steps, at least 50", lambda value: value >= 50)
    earlier: Optional[str] = setting("linefit", "a nowcaster, or null", bool)  # noqa: UP045
    earlier_horizon: int = setting(5, COUNT, at_least_one)
    data_root: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    out: str = setting("runs/gain", "a folder", bool)
    device: str = setting("cpu", DEVICE, is_device)
    workers: int = setting(1, COUNT, at_least_one)
    threads: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
