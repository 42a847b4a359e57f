"""The entries of the zoo that ninokit ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ninokit.hookspecs import hookimpl

__all__ = ["ninokit_zoo"]

_INSTALLED = Path(__file__).parents[1] / "zoo" / "entries"
_IN_REPOSITORY = Path(__file__).parents[2] / "zoo"


@hookimpl
def ninokit_zoo() -> Sequence[Path]:
    """Register the folders of the wheel, or of the repository in an editable installation."""
    from ninokit.zoo.card import CARD_FILE

    root = _INSTALLED if _INSTALLED.is_dir() else _IN_REPOSITORY
    return sorted(card.parent for card in root.glob(f"*/{CARD_FILE}"))
