"""Checks of an entry of the zoo."""

from __future__ import annotations

from collections.abc import Iterator

from ninokit.testing.plugins.findings import Check, NotApplicableError
from ninokit.testing.plugins.nowcasters import check_forecasts
from ninokit.zoo import Entry, read_entry

__all__ = ["entry_checks"]


def entry_checks(entry: Entry) -> Iterator[Check]:
    """Checks of an entry: the weights are those of its card, and predict.

    Args:
        entry: whose card has been read.

    Yields:
        The checks.
    """
    yield Check(f"zoo entry {entry.card.name}: forecast", lambda: _check(entry))


def _check(entry: Entry) -> str:
    if entry.weights.urls:
        raise NotApplicableError("its weights are fetched")
    return check_forecasts(read_entry(entry.folder))
