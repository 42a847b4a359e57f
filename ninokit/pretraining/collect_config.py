"""The settings of ``ninokit collect``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ninokit.configuration import COUNT, DEVICE, at_least_one, is_device, setting
from ninokit.pretraining.network_stack import LOOPED, STACKED
from ninokit.pretraining.state_dtypes import STATE_DTYPES

__all__ = ["CollectConfig"]


def _names(values: Sequence[str]) -> bool:
    return len(values) > 0 and all(values) and len(set(values)) == len(values)


def _range(values: Sequence[float]) -> bool:
    return len(values) == 2 and 0 < values[0] <= values[1] < math.inf


def _decays(values: Sequence[float]) -> bool:
    return len(values) > 0 and all(0 <= value < math.inf for value in values)


@dataclass(kw_only=True)
class CollectConfig:
    """The settings of a collection; None leaves a setting to the task or the device.

    Args:
        tasks: names of registered tasks.
        networks: networks of each task, of the seeds ``first_seed``, ``first_seed + 1``, …
        first_seed: at least 0.
        steps: optimizer steps of a network, at least ``every``; what is left over after a multiple of it is not done.
        every: optimizer steps from one stored state to the next, at least 1. The task's: a tenth of its period.
        lr_range: learning rates are drawn between these two times the task's own, evenly in their logarithm.
        weight_decays: a network's is drawn from these.
        dtype: of the stored states: ``float32``, ``float16`` or ``bfloat16``.
        out: folder of the store; what it holds stays, and what is missing is added.
        data_root: folder of the data sets, for the tasks that read files.
        stack: networks that are trained together, at least 1. The device's: 16 on a CPU, 256 on a GPU.
        execution: ``stacked`` or ``looped``. The device's: what `faster_execution` holds to be faster.
        autocast: compute in bfloat16 where torch holds that to be safe.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes that share the work.
        threads: CPU threads of torch in each process; None divides the CPUs among them.
        held_out: collect also tasks that are kept for judging, which spoils them for that.
    """

    tasks: list[str] = setting(
        ["mnist1d_mlp"], "a list of names of tasks, see `ninokit tasks`, such as [mnist1d_mlp]", _names
    )
    networks: int = setting(16, COUNT, at_least_one)
    first_seed: int = setting(0, "a whole number, at least 0", lambda value: value >= 0)
    # OmegaConf reads the annotations at run time; Optional is what all its versions know.
    steps: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    every: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    lr_range: list[float] = setting([0.3, 3.0], "two numbers above 0, the smaller first, such as [0.3,3]", _range)
    weight_decays: Optional[list[float]] = setting(  # noqa: UP045
        None, "a list of numbers, at least 0, such as [0,0.01]", _decays
    )
    dtype: str = setting("float32", f"one of {', '.join(STATE_DTYPES)}", lambda name: name in STATE_DTYPES)
    out: str = setting("runs/trajectories", "a folder", bool)
    data_root: Optional[str] = setting(None, "a folder", bool)  # noqa: UP045
    stack: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    execution: Optional[str] = setting(  # noqa: UP045
        None, f"{STACKED} or {LOOPED}", lambda name: name in {STACKED, LOOPED}
    )
    autocast: bool = setting(False, "true or false", lambda value: isinstance(value, bool))
    device: str = setting("cpu", DEVICE, is_device)
    workers: int = setting(1, COUNT, at_least_one)
    threads: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    held_out: bool = setting(False, "true or false", lambda value: isinstance(value, bool))
