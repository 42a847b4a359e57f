"""Checks of an observer."""

from __future__ import annotations

from collections.abc import Iterator

from ninokit.plugins import Plugin, Registry
from ninokit.plugins.discovery import find_entries
from ninokit.testing.plugins.findings import Check
from ninokit.training.events import NowcastEvent

__all__ = ["observer_checks"]

_EVENTS = (
    NowcastEvent(step=10, horizon=3, accepted=True, reason="", seconds=0.1),
    NowcastEvent(step=20, horizon=3, accepted=False, reason="a check of the observer", seconds=0.1),
)


def observer_checks(plugin: Plugin) -> Iterator[Check]:
    """Checks of an observer: it is told of two nowcasts, and whatever it does with them happens.

    Args:
        plugin: whose it is.

    Yields:
        The checks.
    """
    yield Check("observer", lambda: _tell(plugin.name))


def _tell(name: str) -> str:
    """In a registry that has no other plugin, and raises what it raises."""
    registry = Registry(strict=True)
    for entry, plugin in find_entries():
        if plugin.name == name:
            registry.register(entry.load(), name)
    for event in _EVENTS:
        registry.notify(event)
    return "was told of an accepted and a refused nowcast"
