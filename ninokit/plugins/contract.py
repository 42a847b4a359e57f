"""What a plugin must be like before any hook of it is called."""

from __future__ import annotations

import difflib
import inspect

import pluggy

from ninokit.errors import PluginError
from ninokit.hookspecs import API_VERSION, PROJECT

__all__ = ["API_ATTRIBUTE", "check_contract"]

API_ATTRIBUTE = "ninokit_api"


def check_contract(plugin: object, manager: pluggy.PluginManager) -> None:
    """Check what a plugin says of itself: its API version, and the names of its hooks.

    Args:
        plugin: a module or object with hook implementations.
        manager: knows the hooks.

    Raises:
        PluginError: if it was written for another API version, if a hook has a name that there is not, or lacks
            ``@ninokit.hookimpl``, or if there is none.
    """
    _check_version(getattr(plugin, API_ATTRIBUTE, API_VERSION))
    known = [name for name in vars(manager.hook) if name.startswith(f"{PROJECT}_")]
    found = False
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is not None:
            _check_hook(options.get("specname") or name, known)
            found = True
        elif name.startswith(f"{PROJECT}_") and inspect.isroutine(getattr(plugin, name)):
            raise PluginError(f"{name} lacks the decorator @ninokit.hookimpl; add it, or rename the function")
    if not found:
        raise PluginError(f"it implements no hook; there are {sorted(known)}")


def _check_version(version: object) -> None:
    if version == API_VERSION:
        return
    newer = isinstance(version, int) and version > API_VERSION
    raise PluginError(
        f"it was written for version {version!r} of the plugin API ({API_ATTRIBUTE}), this ninokit has version "
        f"{API_VERSION}; install a newer {'ninokit' if newer else 'version of the plugin'}"
    )


def _check_hook(name: str, known: list[str]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(known)}"
        raise PluginError(f"there is no hook {name!r}; {hint}")
