"""Discovery of plugins through entry points, and the registry of what they offer."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from ninokit import hookspecs
from ninokit.errors import PluginError

if TYPE_CHECKING:
    from ninokit.benchmarks.task import Task
    from ninokit.encoding import Architecture
    from ninokit.graph.tracing.call import Rule
    from ninokit.nowcasters.base import Nowcaster
    from ninokit.training.events import NowcastEvent
    from ninokit.zoo.entry import Entry

__all__ = ["Registry", "registry"]

_log = logging.getLogger(__name__)
T = TypeVar("T")

GROUP = "ninokit"
DISTRIBUTION = "ninokit"
STRICT = "NINOKIT_STRICT_PLUGINS"
LOAD = "NINOKIT_LOAD_PLUGINS"


@functools.cache
def registry() -> Registry:
    """The registry of this process, filled from the installed entry points on first use."""
    return Registry.discover()


class Registry:
    """What all plugins offer.

    A plugin that fails is left out with one warning that names its distribution, version and fault.

    Args:
        strict: raise `PluginError` instead of warning.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._strict = strict
        self._origins: dict[str, str] = {}
        self._collected: dict[str, dict[str, Any]] = {}

    @classmethod
    def discover(cls) -> Registry:
        """A registry of the plugins that the installed distributions announce.

        The environment variable ``NINOKIT_LOAD_PLUGINS`` names the entry points to load (comma-separated; empty:
        none), ``NINOKIT_STRICT_PLUGINS=1`` makes any fault an error.
        """
        found = cls(strict=os.environ.get(STRICT, "") == "1")
        # The last registered plugin is asked first, so the built-in ones come before all others.
        for entry in sorted(_entry_points(), key=lambda e: (_distribution(e)[0] != DISTRIBUTION, e.name)):
            found._load(entry)
        return found

    def register(self, plugin: object, name: str, origin: str = "registered by hand") -> None:
        """Add a plugin.

        Args:
            plugin: a module or object with hook implementations.
            name: unique among the plugins.
            origin: what to call it in warnings.

        Raises:
            PluginError: if the name is taken or a hook's signature does not fit, and the registry is strict.
        """
        if self._manager.is_registered(plugin) or self._manager.has_plugin(name):
            self._refuse(f"plugin {name!r} of {origin}: it, or another of its name, is registered already")
            return
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except Exception as error:
            self._unregister(plugin)
            self._refuse(f"plugin {name!r} of {origin}: {type(error).__name__}: {error}", error)
            return
        self._origins[name] = origin
        self._collected.clear()

    def architectures(self) -> dict[str, Architecture]:
        """The architecture families by name, in the order in which they are asked."""
        from ninokit.encoding import Architecture

        return self._offers("ninokit_architectures", lambda families: [(_name(f, Architecture), f) for f in families])

    def nowcasters(self) -> dict[str, type[Nowcaster]]:
        """The nowcaster families by name."""
        return self._offers("ninokit_nowcasters", lambda families: [(n, _nowcaster(f)) for n, f in families.items()])

    def zoo(self) -> dict[str, Entry]:
        """The entries of the zoo by name."""
        return self._offers("ninokit_zoo", lambda folders: [_entry(folder) for folder in folders])

    def tasks(self) -> dict[str, Task]:
        """The benchmark tasks by name."""
        from ninokit.benchmarks.task import Task

        return self._offers("ninokit_tasks", lambda tasks: [(_name(task, Task), task) for task in tasks])

    def tracer_rules(self) -> dict[str, Rule]:
        """The tracer's rules that plugins add, by the name of the operator."""
        return self._offers("ninokit_tracer_rules", lambda rules: [(n, _rule(n, r)) for n, r in rules.items()])

    def notify(self, event: NowcastEvent) -> None:
        """Tell the observers of a nowcast; one that fails does not stop the training.

        Args:
            event: what happened.
        """
        for implementation in self._implementations("ninokit_on_nowcast"):
            try:
                implementation.function(event=event) if implementation.argnames else implementation.function()
            except Exception as error:
                origin = self._origins[implementation.plugin_name]
                self._refuse(f"ninokit_on_nowcast of {origin}: {type(error).__name__}: {error}", error)

    def _offers(self, hook: str, named: Callable[[Any], list[tuple[str, T]]]) -> dict[str, T]:
        """What a hook's implementations return; asked once, so that offers keep their identity."""
        if hook not in self._collected:
            self._collected[hook] = self._collect(hook, named)
        return dict(self._collected[hook])

    def _collect(self, hook: str, named: Callable[[Any], list[tuple[str, T]]]) -> dict[str, T]:
        found: dict[str, T] = {}
        owners: dict[str, str] = {}
        for implementation in self._implementations(hook):
            origin = self._origins[implementation.plugin_name]
            try:
                offers = named(implementation.function())
            except Exception as error:
                self._refuse(f"{hook} of {origin}: {type(error).__name__}: {error}", error)
                continue
            for name, offer in offers:
                if name in found:
                    self._refuse(f"{hook} of {origin}: {name!r} is offered by {owners[name]} already, which is kept")
                else:
                    found[name], owners[name] = offer, origin
        return found

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        return list(reversed(getattr(self._manager.hook, hook).get_hookimpls()))

    def _load(self, entry: metadata.EntryPoint) -> None:
        name, version = _distribution(entry)
        origin = f"{name} {version}"
        try:
            plugin = entry.load()
        except Exception as error:
            self._refuse(f"plugin {entry.name!r} of {origin}: {type(error).__name__}: {error}", error)
        else:
            self.register(plugin, entry.name, origin)

    def _unregister(self, plugin: object) -> None:
        if self._manager.is_registered(plugin):
            self._manager.unregister(plugin)

    def _refuse(self, message: str, error: Exception | None = None) -> None:
        if self._strict:
            raise PluginError(message) from error
        _log.warning("left out: %s", message)


def _name(offer: Any, expected: type[Architecture] | type[Task]) -> str:
    if not isinstance(offer, expected):
        raise PluginError(f"expected {expected.__name__} objects, got {offer!r}")
    return offer.name


def _nowcaster(offer: Any) -> type[Nowcaster]:
    from ninokit.nowcasters.base import Nowcaster

    if not (isinstance(offer, type) and issubclass(offer, Nowcaster)):
        raise PluginError(f"expected subclasses of Nowcaster, got {offer!r}")
    return offer


def _entry(folder: Any) -> tuple[str, Entry]:
    from ninokit.zoo.entry import Entry

    entry = Entry.open(folder)
    return entry.card.name, entry


def _rule(name: Any, offer: Any) -> Rule:
    if not (isinstance(name, str) and "." in name and callable(offer)):
        raise PluginError(f"expected functions by names of operators, such as 'aten.relu', got {name!r}: {offer!r}")
    return offer


def _entry_points() -> list[metadata.EntryPoint]:
    entries = list(metadata.entry_points(group=GROUP))
    if LOAD not in os.environ:
        return entries
    wanted = {name.strip() for name in os.environ[LOAD].split(",") if name.strip()}
    missing = wanted - {entry.name for entry in entries}
    if missing:
        _log.warning("%s names %s, which no installed distribution announces", LOAD, sorted(missing))
    return [entry for entry in entries if entry.name in wanted]


def _distribution(entry: metadata.EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "?")
