"""All checks of a plugin, one after another."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from tqdm import tqdm

from ninokit.errors import PluginError
from ninokit.plugins import Plugin, Registry, Status
from ninokit.testing.plugins.architectures import architecture_checks
from ninokit.testing.plugins.arms import arm_checks
from ninokit.testing.plugins.entries import entry_checks
from ninokit.testing.plugins.findings import Check, PluginReport, run_check
from ninokit.testing.plugins.nowcasters import nowcaster_checks
from ninokit.testing.plugins.observers import observer_checks
from ninokit.testing.plugins.registration import registration_checks
from ninokit.testing.plugins.rules import rule_checks
from ninokit.testing.plugins.tasks import task_checks

__all__ = ["check_plugin"]


def check_plugin(name: str) -> PluginReport:
    """Check an installed plugin: one call is a plugin's test.

    That it is imported without PyTorch, its API version, and that everything it registers is accepted; then each kind:
    architectures on their examples (`ninokit.testing.conformance_checks`, and what they say to models that they can't
    encode), rules of the tracer, nowcasters and entries of the zoo on a small network, tasks by a step of training,
    arms by a training of a small network, and observers, which are told of a nowcast.

    Args:
        name: of its entry point.

    Returns:
        What was found.

    Raises:
        PluginError: if no such plugin is installed and chosen.

    Example:
        >>> from ninokit.testing import check_plugin
        >>> check_plugin("mlp").passed
        True
    """
    registry = Registry.discover(strict=False)
    registry.collect()
    plugin = _find(name, registry)
    checks = tqdm(_checks(plugin, registry), desc=f"checking {name}", unit=" checks", disable=None, leave=False)
    return PluginReport(f"{name} ({plugin.origin})", tuple(run_check(check) for check in checks))


def _find(name: str, registry: Registry) -> Plugin:
    plugins = {plugin.name: plugin for plugin in registry.plugins()}
    if name not in plugins:
        close = difflib.get_close_matches(name, plugins, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PluginError(f"plugin: none is named {name!r}; installed are {sorted(plugins)}{hint}")
    if plugins[name].status is Status.NOT_CHOSEN:
        raise PluginError(f"plugin: {name!r} is left out by NINOKIT_LOAD_PLUGINS; add it there to check it")
    return plugins[name]


def _checks(plugin: Plugin, registry: Registry) -> Iterator[Check]:
    yield from registration_checks(plugin)
    if plugin.status is not Status.LOADED:
        return
    for name in plugin.offers.get("ninokit_architectures", ()):
        yield from architecture_checks(registry.architectures()[name])
    for name in plugin.offers.get("ninokit_tracer_rules", ()):
        yield from rule_checks(name)
    for name in plugin.offers.get("ninokit_nowcasters", ()):
        yield from nowcaster_checks(name, registry.nowcasters()[name])
    for name in plugin.offers.get("ninokit_zoo", ()):
        yield from entry_checks(registry.zoo()[name])
    for name in plugin.offers.get("ninokit_tasks", ()):
        yield from task_checks(registry.tasks()[name])
    for name in plugin.offers.get("ninokit_arms", ()):
        yield from arm_checks(registry.arms()[name])
    if "ninokit_on_nowcast" in plugin.hooks:
        yield from observer_checks(plugin)
