"""The settings of ``ninokit evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ninokit.configuration import COUNT, DEVICE, SEEDS, are_seeds, at_least_one, is_device, positive, setting

__all__ = ["EvaluateConfig"]


def _are_names(values: Sequence[str]) -> bool:
    return len(values) > 0 and _are_distinct(values)


def _are_distinct(values: Sequence[str]) -> bool:
    return all(values) and len(set(values)) == len(values)


def _are_factors(values: Sequence[float]) -> bool:
    return all(positive(value) for value in values) and len(set(values)) == len(values)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


@dataclass(kw_only=True)
class EvaluateConfig:
    """The settings of an evaluation.

    Args:
        tasks: names of registered tasks, distinct.
        against: the nowcasters to compare with, as `ninokit.nowcasters.load` takes them; distinct, may be none.
        seeds: one run of each method on each task; distinct, at least 0.
        lr_factors: AdamW is tuned over the task's learning rate and these multiples of it, above 0; none: not tuned.
        tuning_seeds: the runs that the learning rate is chosen on; none of ``seeds``.
        data_root: folder of the data sets, for the tasks that read files.
        out: folder for the results; made if missing. Finished runs that are there are not repeated.
        max_steps: end a run there, with the horizons planned for all of the task's steps, at least 1; None goes to the
            end.
        stop_at_target: end a run at the first evaluation that reaches the target.
        write_card: add what was measured to the nowcaster's card, if that lies on this machine as more than a copy.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes that share the runs; their seconds then say what a run takes beside others.
        threads: CPU threads for torch in each process, at least 1; None divides the CPUs among them.
    """

    tasks: list[str] = setting(
        ["mnist1d_mlp", "mnist1d_cnn", "digits_mlp"], "a list of distinct tasks, see `ninokit tasks`", _are_names
    )
    against: list[str] = setting(["linefit"], "a list of distinct nowcasters, or []", _are_distinct)
    seeds: list[int] = setting([0, 1, 2], SEEDS, are_seeds)
    lr_factors: list[float] = setting([0.25, 0.5, 2.0, 4.0], "a list of distinct numbers above 0, or []", _are_factors)
    tuning_seeds: list[int] = setting([100], SEEDS, are_seeds)
    # OmegaConf reads the annotations at run time; Optional is what all its versions know.
    data_root: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    out: str = setting("runs/evaluate", "a folder", bool)
    max_steps: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    stop_at_target: bool = setting(True, "true or false", _is_bool)
    write_card: bool = setting(True, "true or false", _is_bool)
    device: str = setting("cpu", DEVICE, is_device)
    workers: int = setting(1, COUNT, at_least_one)
    threads: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
