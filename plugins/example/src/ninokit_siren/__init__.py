"""A ninokit plugin for SIRENs, with one of every kind of thing that a plugin may add.

A hook imports what it offers inside itself, so that ninokit can list its plugins without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ninokit import hookimpl

if TYPE_CHECKING:
    from ninokit import Architecture, NowcastEvent
    from ninokit.benchmarks import Task
    from ninokit.benchmarks.arms import Arm
    from ninokit.graph.tracing import Rule
    from ninokit.nowcasters import Nowcaster

__all__ = [
    "ninokit_api",
    "ninokit_architectures",
    "ninokit_arms",
    "ninokit_nowcasters",
    "ninokit_on_nowcast",
    "ninokit_tasks",
    "ninokit_tracer_rules",
    "ninokit_zoo",
]

# The version of the plugin API that this was written for.
ninokit_api = 1


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``siren``."""
    from ninokit import Architecture
    from ninokit_siren.encoder import encode, examples, matches

    return [Architecture("siren", "sine layers with a skip and a shift a layer", matches, encode, examples)]


@hookimpl
def ninokit_tracer_rules() -> Mapping[str, Rule]:
    """How the tracer reads the operator of sine layers, in networks that have no encoder."""
    from ninokit_siren.operators import trace_sine

    return {"ninokit_siren.sine": trace_sine}


@hookimpl
def ninokit_nowcasters() -> Mapping[str, type[Nowcaster]]:
    """Register the family ``holt``."""
    from ninokit_siren.nowcaster import Holt

    return {"holt": Holt}


@hookimpl
def ninokit_zoo() -> Sequence[Path]:
    """The entry ``holt_siren.petals``, whose weights are in this package."""
    return [Path(__file__).parent / "zoo" / "holt_siren.petals"]


@hookimpl
def ninokit_tasks() -> Sequence[Task]:
    """The task ``siren_petals``, which needs no files."""
    from ninokit_siren.task import SIREN_PETALS

    return [SIREN_PETALS]


@hookimpl
def ninokit_arms() -> Sequence[Arm]:
    """The arm ``nadam``."""
    from ninokit_siren.arm import NADAM

    return [NADAM]


@hookimpl
def ninokit_on_nowcast(event: NowcastEvent) -> None:
    """Append the event to the file that the environment names, if any."""
    from ninokit_siren.observer import record

    record(event)
