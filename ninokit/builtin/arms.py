"""The arms that ship with ninokit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit.hookspecs import hookimpl

if TYPE_CHECKING:
    from ninokit.benchmarks.arms import Arm

__all__ = ["ninokit_arms"]


@hookimpl
def ninokit_arms() -> Sequence[Arm]:
    """The ways to train without nowcasting, the baseline first."""
    from ninokit.benchmarks.arms.adamw import ADAMW
    from ninokit.benchmarks.arms.linear_decay import ADAMW_LINEAR
    from ninokit.benchmarks.arms.muon import MUON
    from ninokit.benchmarks.arms.schedule_free import SCHEDULE_FREE
    from ninokit.benchmarks.arms.snoo import SNOO

    return [ADAMW, ADAMW_LINEAR, SCHEDULE_FREE, MUON, SNOO]
