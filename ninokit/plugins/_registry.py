"""The registry of what plugins offer."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from ninokit import hookspecs
from ninokit.errors import NinokitError, PluginError
from ninokit.plugins.contract import check_contract
from ninokit.plugins.discovery import find_entries, is_strict
from ninokit.plugins.record import Plugin, Status

if TYPE_CHECKING:
    from ninokit.benchmarks.arms import Arm
    from ninokit.benchmarks.task import Task
    from ninokit.encoding import Architecture
    from ninokit.graph.tracing.call import Rule
    from ninokit.nowcasters.base import Nowcaster
    from ninokit.training.events import NowcastEvent
    from ninokit.zoo.entry import Entry

__all__ = ["Registry", "registry"]

_log = logging.getLogger(__name__)
T = TypeVar("T")


@functools.cache
def registry() -> Registry:
    """The registry of this process, filled from the installed entry points on first use."""
    return Registry.discover()


class Registry:
    """What all plugins offer.

    A plugin that fails, or the hook of it that does, is left out with one warning that names its distribution, its
    version, the hook and the fault; whatever else works.

    Args:
        strict: raise `PluginError` instead of warning.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._strict = strict
        self._plugins: list[Plugin] = []
        self._registered: dict[str, Plugin] = {}
        self._collected: dict[str, dict[str, Any]] = {}
        self._warned: set[tuple[int, str, str]] = set()

    @classmethod
    def discover(cls, *, strict: bool | None = None) -> Registry:
        """A registry of the plugins that the installed distributions announce.

        The environment variable ``NINOKIT_LOAD_PLUGINS`` names the entry points to load (comma-separated; empty:
        none), ``NINOKIT_STRICT_PLUGINS=1`` makes any fault an error.

        Args:
            strict: whether a fault is an error; left out, as the environment says.

        Returns:
            The registry.

        Raises:
            PluginError: naming the plugin and its fault, if the registry is strict.
        """
        found = cls(strict=is_strict() if strict is None else strict)
        for entry, plugin in find_entries():
            found._plugins.append(plugin)
            if plugin.status is not Status.NOT_CHOSEN:
                with found._guard(plugin):
                    found._add(entry.load(), plugin)
        return found

    def register(self, implementation: object, name: str) -> None:
        """Add a plugin by hand; it is asked before those that are there.

        Args:
            implementation: a module or object with hook implementations.
            name: unique among the plugins.

        Raises:
            PluginError: if the plugin breaks the contract, and the registry is strict.
        """
        plugin = Plugin(name)
        self._plugins.append(plugin)
        with self._guard(plugin):
            self._add(implementation, plugin)

    def plugins(self) -> list[Plugin]:
        """All plugins that there are, in the order in which they are asked, with what became of them."""
        return self._plugins[::-1]

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

    def arms(self) -> dict[str, Arm]:
        """The arms of an evaluation by name."""
        from ninokit.benchmarks.arms import Arm

        return self._offers("ninokit_arms", lambda arms: [(_name(arm, Arm), arm) for arm in arms])

    def tracer_rules(self) -> dict[str, Rule]:
        """The tracer's rules that plugins add, by the name of the operator."""
        return self._offers("ninokit_tracer_rules", lambda rules: [(n, _rule(n, r)) for n, r in rules.items()])

    def collect(self) -> None:
        """Ask all plugins for all that they offer, so that their records have the names."""
        for offers in (self.architectures, self.nowcasters, self.zoo, self.tasks, self.arms, self.tracer_rules):
            offers()

    def notify(self, event: NowcastEvent) -> None:
        """Tell the observers of a nowcast; one that fails does not stop the training, and is told of the next again.

        Args:
            event: what happened.
        """
        for implementation in self._implementations("ninokit_on_nowcast"):
            with self._guard(self._registered[implementation.plugin_name], "ninokit_on_nowcast"):
                implementation.function(event=event) if implementation.argnames else implementation.function()

    def _offers(self, hook: str, named: Callable[[Any], list[tuple[str, T]]]) -> dict[str, T]:
        """What a hook's implementations return; asked once, so that offers keep their identity."""
        if hook not in self._collected:
            self._collected[hook] = self._ask(hook, named)
        return dict(self._collected[hook])

    def _ask(self, hook: str, named: Callable[[Any], list[tuple[str, T]]]) -> dict[str, T]:
        found: dict[str, T] = {}
        owners: dict[str, Plugin] = {}
        for implementation in self._implementations(hook):
            plugin = self._registered[implementation.plugin_name]
            offers: list[tuple[str, T]] = []
            with self._guard(plugin, hook):
                offers = [(_checked(name), offer) for name, offer in named(implementation.function())]
            for name, offer in offers:
                if name in found:
                    self._refuse(plugin, f"{name!r} is offered already by {owners[name].origin}, which is kept", hook)
                else:
                    found[name], owners[name] = offer, plugin
            plugin.offers[hook] = [name for name, owner in owners.items() if owner is plugin]
        return found

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        return list(reversed(getattr(self._manager.hook, hook).get_hookimpls()))

    def _add(self, implementation: object, plugin: Plugin) -> None:
        if self._manager.is_registered(implementation) or self._manager.has_plugin(plugin.name):
            raise PluginError("it, or another of its name, is registered already")
        check_contract(implementation, self._manager)
        with self._undone(implementation):
            self._manager.register(implementation, name=plugin.name)
            self._manager.check_pending()
        plugin.hooks = [caller.name for caller in self._manager.get_hookcallers(implementation) or ()]
        plugin.file = getattr(sys.modules.get(plugin.entry_point.partition(":")[0]), "__file__", None) or ""
        plugin.status = Status.LOADED
        self._registered[plugin.name] = plugin
        self._collected.clear()

    @contextmanager
    def _undone(self, implementation: object) -> Iterator[None]:
        """Take a plugin out again that turns out to be broken."""
        try:
            yield
        except BaseException:
            if self._manager.is_registered(implementation):
                self._manager.unregister(implementation)
            raise

    @contextmanager
    def _guard(self, plugin: Plugin, hook: str = "") -> Iterator[None]:
        """Refuse whatever a plugin's code raises: no `sys.exit` or panic of a stranger ends a training. Ctrl-C does."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except NinokitError as error:  # says all there is to say
            self._refuse(plugin, str(error), hook, error)
        except BaseException as error:
            self._refuse(plugin, "".join(traceback.format_exception_only(type(error), error)).strip(), hook, error)

    def _refuse(self, plugin: Plugin, fault: str, hook: str = "", error: BaseException | None = None) -> None:
        message = f"{plugin.place(hook)}: {fault}"
        if self._strict:
            raise PluginError(message) from error
        # An observer may fail at every nowcast, each time with other words.
        key = (id(plugin), hook, fault if error is None else "")
        if key in self._warned:
            _log.debug("left out again: %s", message)
            return
        self._warned.add(key)
        plugin.faults.append(f"{hook}: {fault}" if hook else fault)
        _log.warning("left out: %s", message)


def _checked(name: Any) -> str:
    if not (isinstance(name, str) and name):
        raise PluginError(f"expected names that are strings and not empty, got {name!r}")
    return name


def _name(offer: Any, expected: type[Architecture | Task | Arm]) -> str:
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
