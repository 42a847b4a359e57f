"""Discovery of plugins through entry points, and the registry of what they offer."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from ninokit import hookspecs
from ninokit.errors import PluginError

if TYPE_CHECKING:
    from ninokit.architectures import Architecture
    from ninokit.benchmarks.task import Task
    from ninokit.nowcasters.base import Nowcaster
    from ninokit.training.events import NowcastEvent

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
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except Exception as error:
            self._unregister(plugin)
            self._refuse(f"plugin {name!r} of {origin}: {type(error).__name__}: {error}", error)
            return
        self._origins[name] = origin
        self.__dict__.pop("_offers", None)

    def architectures(self) -> dict[str, Architecture]:
        """The architecture families by name, in the order in which they are asked."""
        return self._named(self._results("ninokit_architectures"), lambda family: family.name, "architecture")

    def nowcasters(self) -> dict[str, type[Nowcaster]]:
        """The nowcaster families by name."""
        pairs = [(origin, list(families.items())) for origin, families in self._results("ninokit_nowcasters")]
        return dict(self._named(pairs, lambda pair: pair[0], "nowcaster").values())

    def tasks(self) -> dict[str, Task]:
        """The benchmark tasks by name."""
        return self._named(self._results("ninokit_tasks"), lambda task: task.name, "task")

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

    def _results(self, hook: str) -> Iterator[tuple[str, Any]]:
        for implementation in self._implementations(hook):
            origin = self._origins[implementation.plugin_name]
            try:
                yield origin, self._offer(implementation)
            except Exception as error:
                self._refuse(f"{hook} of {origin}: {type(error).__name__}: {error}", error)

    def _offer(self, implementation: pluggy.HookImpl) -> Any:
        """What a hook returned, asked once: tasks and families are objects, and keep their identity."""
        offers = self.__dict__.setdefault("_offers", {})
        if implementation not in offers:
            offers[implementation] = implementation.function()
        return offers[implementation]

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        return list(reversed(getattr(self._manager.hook, hook).get_hookimpls()))

    def _named(self, results: Iterable[tuple[str, Iterable[T]]], key: Callable[[T], str], what: str) -> dict[str, T]:
        """Collect by name; the first plugin that is asked keeps a name that two claim."""
        found: dict[str, T] = {}
        owners: dict[str, str] = {}
        for origin, items in results:
            for item in items:
                name = key(item)
                if name in found:
                    self._refuse(f"{what} {name!r} of {origin}: {owners[name]} has one of that name already; kept")
                else:
                    found[name], owners[name] = item, origin
        return found

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
