"""The plugins: how they are found, what they register, and what becomes of broken ones."""

from ninokit.plugins._registry import Registry, registry
from ninokit.plugins.record import Plugin, Status

__all__ = ["Plugin", "Registry", "Status", "registry"]
