"""Every extension point of ninokit, in one file.

A plugin is a module (or object) with functions of these names, marked with ``ninokit.hookimpl`` and announced by
an entry point of the group ``ninokit``. The built-in architectures, nowcasters, tasks and arms use the same door.

Importing the module must be cheap: what a hook offers, and PyTorch, is imported inside the hook. The module may say
``ninokit_api = 1``, the `API_VERSION` that it was written for; a plugin of another version is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ninokit.benchmarks.arms import Arm
    from ninokit.benchmarks.task import Task
    from ninokit.encoding import Architecture
    from ninokit.graph.tracing.call import Rule
    from ninokit.nowcasters.base import Nowcaster
    from ninokit.training.events import NowcastEvent

PROJECT = "ninokit"

# Raised when a hook, or what it is given or returns, changes so that a plugin written before may break.
API_VERSION = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ninokit_architectures() -> Sequence[Architecture]:  # type: ignore[empty-body]
    """Architecture families to register.

    Called once, when the registry is first used. Third-party families are asked before the built-in ones.

    Returns:
        One `Architecture` a family; names must be unique over all plugins.
    """


@hookspec
def ninokit_nowcasters() -> Mapping[str, type[Nowcaster]]:  # type: ignore[empty-body]
    """Nowcaster families by name.

    Called once, when the registry is first used.

    Returns:
        Name → class. One with ``needs_weights`` false is built without arguments and can be attached by that name.
    """


@hookspec
def ninokit_zoo() -> Sequence[Path]:  # type: ignore[empty-body]
    """Pretrained nowcasters for the zoo.

    Called once, when the zoo is first asked for a name; only the cards are read then.

    Returns:
        Folders, each with a ``card.yaml`` and, unless the card says where they are fetched from, the weights
        (`ninokit.zoo.write_entry` writes such a folder). Names must be unique over all plugins.
    """


@hookspec
def ninokit_tasks() -> Sequence[Task]:  # type: ignore[empty-body]
    """Benchmark tasks (model, data, optimizer, target) for ``ninokit evaluate`` and ``ninokit compare``.

    Called once, when the registry is first used; data is loaded only when the task is run.

    Returns:
        The tasks; names must be unique over all plugins.
    """


@hookspec
def ninokit_arms() -> Sequence[Arm]:  # type: ignore[empty-body]
    """Arms: ways to train a task, which an evaluation compares.

    Called once, when the registry is first used; a library that an arm needs is imported when a training begins.

    Returns:
        The arms; names must be unique over all plugins.
    """


@hookspec
def ninokit_tracer_rules() -> Mapping[str, Rule]:  # type: ignore[empty-body]
    """Rules of operators for the tracer (docs/tracing.md), such as those of a library's own operators.

    Called once, when the first network is traced. A rule of a plugin comes before the built-in one of the same name.

    Returns:
        Name of an operator, as ``"aten.relu"`` or ``"torchvision.roi_align"``, → its rule.
    """


@hookspec
def ninokit_on_nowcast(event: NowcastEvent) -> None:
    """Observe a nowcast, accepted or refused.

    Called after every nowcast of every attached optimizer, once the weights are settled. What it returns is ignored.

    Args:
        event: what happened, at which step, and why.
    """
