"""Neural graphs of timm's networks, from the sizes in their configurations; and tasks to compare on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit import hookimpl

if TYPE_CHECKING:
    from ninokit import Architecture
    from ninokit.benchmarks import Task

__all__ = ["ninokit_architectures", "ninokit_tasks"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``timm``."""
    from ninokit import Architecture
    from ninokit_timm.encoder import encode, examples, matches

    description = "timm's networks, traced on inputs of the size in their configuration"
    return [Architecture("timm", description, matches, encode, examples)]


@hookimpl
def ninokit_tasks() -> Sequence[Task]:
    """The tasks with timm's networks, which need files."""
    from ninokit_timm.tasks import TIMM_RESNET, TIMM_VIT

    return [TIMM_RESNET, TIMM_VIT]
