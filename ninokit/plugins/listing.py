"""The plugins as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest

from ninokit.hookspecs import PROJECT
from ninokit.plugins.record import Plugin

__all__ = ["format_json", "format_table"]

_HEADER = ("PLUGIN", "DISTRIBUTION", "STATUS", "ORIGIN", "REGISTERS")


def format_json(plugins: Sequence[Plugin]) -> str:
    """The records of plugins, as a JSON array.

    Args:
        plugins: in the order to show.

    Returns:
        An object a plugin, with the fields of `Plugin`.
    """
    return json.dumps([asdict(plugin) for plugin in plugins], indent=2)


def format_table(plugins: Sequence[Plugin]) -> str:
    """The records of plugins, as a table; faults stand below their plugin.

    Args:
        plugins: in the order to show.

    Returns:
        A line a plugin, and one a fault.
    """
    rows = [_HEADER, *(_row(plugin) for plugin in plugins)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row, plugin in zip_longest(rows, [None, *plugins]):
        lines.append("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        lines += [f"    {' '.join(fault.split())}" for fault in (plugin.faults if plugin else ())]
    return "\n".join(lines)


def _row(plugin: Plugin) -> tuple[str, ...]:
    registers = ", ".join(_hook(hook, plugin.offers) for hook in plugin.hooks)
    return plugin.name, f"{plugin.distribution} {plugin.version}", plugin.status.value, plugin.entry_point, registers


def _hook(hook: str, offers: dict[str, list[str]]) -> str:
    """A hook without its prefix, and what is registered by it, as far as that has been asked for."""
    short = hook.removeprefix(f"{PROJECT}_")
    return f"{short} ({' '.join(offers[hook])})" if offers.get(hook) else short
