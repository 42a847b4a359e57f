"""Whether a plugin is imported cheaply, for this API, and accepted with all that it registers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from ninokit.hookspecs import API_VERSION, PROJECT
from ninokit.plugins import Plugin
from ninokit.plugins.contract import API_ATTRIBUTE
from ninokit.testing.plugins.findings import Check, CheckError, NotApplicableError

__all__ = ["registration_checks"]

_HEAVY = 17  # an exit status that Python has no other meaning for


def registration_checks(plugin: Plugin) -> Iterator[Check]:
    """Checks of a plugin's module and its hooks.

    Args:
        plugin: as the registry knows it, asked for all that it offers.

    Yields:
        The checks.
    """
    yield Check("import", lambda: _check_import(plugin.entry_point))
    yield Check("API version", lambda: _check_version(plugin))
    yield Check("registration", lambda: _check_faults(plugin))


def _check_import(entry_point: str) -> str:
    """In a process of its own, since PyTorch is imported in this one."""
    module = entry_point.partition(":")[0]
    code = f"import sys, {module}; sys.exit({_HEAVY} if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == _HEAVY:
        raise CheckError(f"importing {module} imports PyTorch; import inside the hooks what they offer")
    if done.returncode:
        raise CheckError(f"importing {module} fails: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return "without PyTorch"


def _check_version(plugin: Plugin) -> str:
    """An incompatible version is a fault of registration."""
    module, _, attribute = plugin.entry_point.partition(":")
    implementation = getattr(sys.modules.get(module), attribute, None) if attribute else sys.modules.get(module)
    if not hasattr(implementation, API_ATTRIBUTE):
        raise NotApplicableError(f"not declared ({API_ATTRIBUTE} = {API_VERSION}); taken as {API_VERSION}")
    return str(getattr(implementation, API_ATTRIBUTE))


def _check_faults(plugin: Plugin) -> str:
    if plugin.faults:
        raise CheckError("\n".join(plugin.faults))
    return ", ".join(hook.removeprefix(f"{PROJECT}_") for hook in plugin.hooks)
