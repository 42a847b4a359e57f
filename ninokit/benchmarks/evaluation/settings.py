"""The settings of ``ninokit evaluate`` and ``ninokit compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ninokit.configuration import COUNT, DEVICE, SEEDS, are_seeds, at_least_one, is_device, positive, setting

__all__ = ["CompareConfig", "EvaluateConfig"]


def _are_names(values: Sequence[str]) -> bool:
    return len(values) > 0 and all(values) and len(set(values)) == len(values)


def _are_factors(values: Sequence[float]) -> bool:
    return len(values) > 0 and all(positive(value) for value in values) and len(set(values)) == len(values)


_ARMS = "a list of distinct arms: registered ones, nowcasters, or ARM+NOWCASTER"


@dataclass(kw_only=True)
class EvaluateConfig:
    """The settings of an evaluation.

    Args:
        tasks: names of registered tasks, distinct.
        arms: the ways to train, see `ninokit.benchmarks.arms.find_arm`; ``adamw`` is always among them.
        seeds: one run of each arm on each task, scored on the test split; distinct, at least 0.
        lr_factors: every arm's rate is tuned over these multiples of the task's, above 0.
        tuning_seeds: the runs that settings are chosen on, scored on the validation split; none of ``seeds``.
        data_root: folder of the data sets, for the tasks that read files.
        out: folder for the tables and pictures; made if missing.
        store: folder of the runs, which all tables share; None is ``runs`` in the user's cache.
        seconds: measure what a step and a nowcast take, at the end; nothing else should run on the machine then.
        write_cards: add what nowcasters on AdamW save to the cards of those whose entries lie on this machine.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes that share the runs.
        threads: CPU threads for torch in each process, at least 1; None divides the CPUs among them.
    """

    tasks: list[str] = setting(["mnist1d_fresh_cnn"], "a list of distinct tasks, see `ninokit tasks`", _are_names)
    arms: list[str] = setting(
        ["adamw", "adamw_linear", "schedule_free", "muon", "snoo", "linefit", "wnn_h64.v1"], _ARMS, _are_names
    )
    seeds: list[int] = setting([0, 1, 2, 3, 4], SEEDS, are_seeds)
    lr_factors: list[float] = setting(
        [0.25, 0.5, 1.0, 2.0, 4.0], "a list of distinct numbers above 0, such as [0.5,1,2]", _are_factors
    )
    tuning_seeds: list[int] = setting([100], SEEDS, are_seeds)
    # OmegaConf reads the annotations at run time; Optional is what all its versions know.
    data_root: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    out: str = setting("runs/evaluate", "a folder", bool)
    store: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    seconds: bool = setting(False, "true or false", lambda value: isinstance(value, bool))
    write_cards: bool = setting(False, "true or false", lambda value: isinstance(value, bool))
    device: str = setting("cpu", DEVICE, is_device)
    workers: int = setting(1, COUNT, at_least_one)
    threads: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045


@dataclass(kw_only=True)
class CompareConfig:
    """The settings of a comparison: one task, every arm at the task's rate and its own defaults, nothing tuned.

    Args:
        task: name of a registered task.
        arms: see `EvaluateConfig`.
        seeds: one run of each arm, scored on the test split; distinct, at least 0.
        lr: learning rate, above 0; None is the task's.
        period: optimizer steps between two nowcasts, at least 1; None is the task's.
        total_steps: optimizer steps of a run, at least 1; None is the task's.
        data_root: see `EvaluateConfig`.
        out: see `EvaluateConfig`.
        store: see `EvaluateConfig`.
        seconds: see `EvaluateConfig`.
        device: see `EvaluateConfig`.
        workers: see `EvaluateConfig`.
        threads: see `EvaluateConfig`.
    """

    task: str = setting("mnist1d_fresh_cnn", "the name of a task, see `ninokit tasks`", bool)
    arms: list[str] = setting(["adamw", "linefit"], _ARMS, _are_names)
    seeds: list[int] = setting([0, 1, 2], SEEDS, are_seeds)
    # OmegaConf reads the annotations at run time; Optional is what all its versions know.
    lr: Optional[float] = setting(None, "a number above 0", positive)  # noqa: UP045
    period: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    total_steps: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    data_root: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    out: str = setting("runs/compare", "a folder", bool)
    store: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    seconds: bool = setting(False, "true or false", lambda value: isinstance(value, bool))
    device: str = setting("cpu", DEVICE, is_device)
    workers: int = setting(1, COUNT, at_least_one)
    threads: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
