"""The entries of the zoo by name: ``family_size.tag``, or ``family_size`` alone for its default tag."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ninokit.errors import ZooError
from ninokit.plugins import registry
from ninokit.zoo.entry import Entry

__all__ = ["entries", "find", "hint", "list_names"]


def entries() -> dict[str, Entry]:
    """All entries by name: ninokit's own and those of plugins."""
    return registry().zoo()


def list_names(pattern: str = "*") -> list[str]:
    """The names in the zoo.

    Args:
        pattern: with ``*``, ``?`` and ``[…]``, as in file names.

    Returns:
        The names that fit, in order.

    Example:
        >>> list_names("wnn_*.published")
        ['wnn_h128.published', 'wnn_h32.published']
    """
    return sorted(name for name in entries() if fnmatchcase(name, pattern))


def find(name: str) -> Entry:
    """The entry of a name.

    Args:
        name: with its tag; without one, the only tag there is or the one whose card says that it is the default.

    Returns:
        The entry.

    Raises:
        ZooError: if there is none, with close names, or several tags and no default.

    Example:
        >>> find("wnn_h32").card.name
        'wnn_h32.published'
    """
    known = entries()
    if name in known:
        return known[name]
    tags = [entry for entry in known.values() if entry.card.model == name]
    chosen = tags if len(tags) == 1 else [entry for entry in tags if entry.card.default]
    if len(chosen) == 1:
        return chosen[0]
    if tags:
        raise ZooError(f"zoo: {name!r} alone is ambiguous; give one of {sorted(entry.card.name for entry in tags)}")
    raise ZooError(f"zoo: there is no {name!r}.{hint(name)} `ninokit zoo list` shows all names")


def hint(name: str, others: Iterable[str] = ()) -> str:
    """What may have been meant.

    Args:
        name: of nothing.
        others: names beside those of the zoo.

    Returns:
        A question to end an error message with, from a blank on; empty if no name is written alike.
    """
    known = entries()
    models = {entry.card.model for entry in known.values()}
    close = difflib.get_close_matches(name, [*known, *sorted(models), *others], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
