"""One plugin, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Plugin", "Status"]


class Status(str, Enum):
    """What became of a plugin."""

    LOADED = "loaded"
    LEFT_OUT = "left out"
    NOT_CHOSEN = "not chosen"


@dataclass
class Plugin:
    """A plugin as the registry knows it.

    Args:
        name: of its entry point.
        distribution: what it came with; empty if it was registered by hand.
        version: of the distribution.
        entry_point: the module, or module:object, that the entry point names.
        file: where its code lies; empty as long as it is not imported.
        status: what became of it.
        hooks: the hooks that it implements.
        offers: hook → the names that it has registered there; empty as long as nobody has asked for them.
        faults: why it, or something of it, was left out.
    """

    name: str
    distribution: str = ""
    version: str = ""
    entry_point: str = ""
    file: str = ""
    status: Status = Status.LEFT_OUT
    hooks: list[str] = field(default_factory=list)
    offers: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """What it came with, for messages."""
        if self.distribution:
            return f"{self.distribution} {self.version}"
        return f"plugin {self.name!r}, registered by hand"

    def place(self, hook: str = "") -> str:
        """A hook of it, or the plugin itself, for messages.

        Args:
            hook: its name; empty for the plugin.

        Returns:
            Such as ``ninokit_tasks of stranger 1.2``.
        """
        if hook:
            return f"{hook} of {self.origin}"
        return f"plugin {self.name!r} of {self.origin}" if self.distribution else self.origin
