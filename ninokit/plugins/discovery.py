"""Which plugins the installed distributions announce, and in which order they come."""

from __future__ import annotations

import logging
import os
from importlib import metadata

from ninokit.plugins.record import Plugin, Status

__all__ = ["GROUP", "LOAD", "STRICT", "Entry", "find_entries", "is_strict"]

_log = logging.getLogger(__name__)

GROUP = "ninokit"
DISTRIBUTION = "ninokit"
STRICT = "NINOKIT_STRICT_PLUGINS"
LOAD = "NINOKIT_LOAD_PLUGINS"

# A plugin's entry point, and what the metadata alone tell about it.
Entry = tuple[metadata.EntryPoint, Plugin]


def is_strict() -> bool:
    """Whether the environment makes any fault an error."""
    return os.environ.get(STRICT, "") == "1"


def find_entries() -> list[Entry]:
    """The announced plugins, none of them imported.

    Returns:
        In the order of registration, which does not depend on that of installation: the built-in ones first, and by
        their names. Who registers last is asked first. Those that ``NINOKIT_LOAD_PLUGINS`` leaves out have the status
        `Status.NOT_CHOSEN`.
    """
    entries = [(entry, _described(entry)) for entry in metadata.entry_points(group=GROUP)]
    entries.sort(key=lambda e: (e[1].distribution != DISTRIBUTION, e[1].name, e[1].distribution))
    if LOAD in os.environ:
        _choose([plugin for _, plugin in entries])
    return entries


def _described(entry: metadata.EntryPoint) -> Plugin:
    distribution, version = _identity(entry)
    return Plugin(entry.name, distribution, version, entry.value)


def _identity(entry: metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of a distribution; its metadata may be damaged."""
    try:
        return (entry.dist.name or "unknown", entry.dist.version or "?") if entry.dist else ("unknown", "?")
    except Exception as error:
        _log.debug("the distribution of the entry point %r has no readable metadata: %s", entry, error)
        return "unknown", "?"


def _choose(plugins: list[Plugin]) -> None:
    wanted = {name.strip() for name in os.environ[LOAD].split(",") if name.strip()}
    missing = wanted - {plugin.name for plugin in plugins}
    if missing:
        _log.warning("%s names %s, which no installed distribution announces", LOAD, sorted(missing))
    for plugin in plugins:
        if plugin.name not in wanted:
            plugin.status = Status.NOT_CHOSEN
