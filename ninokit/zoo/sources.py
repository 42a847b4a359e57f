"""Where an entry may come from: a name of the zoo, a folder, a repository of the hub, an address."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from ninokit.errors import ZooError
from ninokit.zoo import hub
from ninokit.zoo.cache import writing_to_cache
from ninokit.zoo.card import CARD_FILE, Card, parse_card_text, write_card
from ninokit.zoo.entry import Entry
from ninokit.zoo.http import get_text
from ninokit.zoo.names import find
from ninokit.zoo.settings import cache_folder, offline_by

__all__ = ["is_remote", "is_source", "resolve"]

_log = logging.getLogger(__name__)

_FOLDER = "local-dir:"
_ADDRESS = ("https://", "http://")
_CARD_LIMIT = 2**20  # bytes


def is_source(source: str) -> bool:
    """Whether a text says where an entry is, rather than its name.

    Args:
        source: any text.

    Returns:
        Whether it begins with ``hf-hub:``, ``local-dir:``, ``https://`` or ``http://``.
    """
    return source.startswith((hub.PREFIX, _FOLDER, *_ADDRESS))


def is_remote(source: str) -> bool:
    """Whether a source names an entry elsewhere, of which there is at most a copy here.

    Args:
        source: any text.

    Returns:
        Whether it begins with ``hf-hub:``, ``https://`` or ``http://``.
    """
    return source.startswith((hub.PREFIX, *_ADDRESS))


def resolve(source: str) -> Entry:
    """The entry that a source names; its weights need not be here yet.

    Args:
        source: a name of the zoo, with or without its tag; ``local-dir:FOLDER``; ``hf-hub:owner/name`` or
            ``hf-hub:owner/name@revision``; or the ``https://`` address of a folder with a ``card.yaml``.

    Returns:
        The entry.

    Raises:
        ZooError: if there is none, or its card is malformed or can't be fetched.
        DependencyError: if a source of the hub is asked for without huggingface_hub.
    """
    if source.startswith(_FOLDER):
        return Entry.open(Path(source.removeprefix(_FOLDER)).expanduser())
    if source.startswith(hub.PREFIX):
        return hub.fetch_entry(source.removeprefix(hub.PREFIX))
    if source.startswith(_ADDRESS):
        return _at_address(source.rstrip("/"))
    return find(source)


def _at_address(address: str) -> Entry:
    """An entry on a web server; its card is kept, for when the server can't be reached."""
    folder = cache_folder() / "cards" / hashlib.sha256(address.encode()).hexdigest()[:16]
    kept = (folder / CARD_FILE).is_file()
    forbidden = offline_by()
    if forbidden and not kept:
        raise ZooError(f"{address}: its card has never been fetched, and {forbidden} forbids the network")
    if not forbidden:
        _refresh_card(address, folder, kept)
    return Entry.open(folder)


def _refresh_card(address: str, folder: Path, kept: bool) -> None:
    origin = f"{address}/{CARD_FILE}"
    try:
        text = get_text(origin, _CARD_LIMIT)
    except ZooError as error:
        if not kept:
            raise
        _log.warning("%s; the card from before is used", error)
        return
    card = _with_address(parse_card_text(text, origin), address)
    with writing_to_cache(origin):
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{CARD_FILE}.{os.getpid()}"
        try:
            write_card(card, unfinished)
            unfinished.replace(folder / CARD_FILE)
        finally:
            unfinished.unlink(missing_ok=True)


def _with_address(card: Card, address: str) -> Card:
    """The card with its own folder as the last place to fetch the weights from."""
    if card.weights is None:
        return card  # as `Entry.open` will say
    urls = [*card.weights.urls, f"{address}/{card.weights.file}"]
    return card.model_copy(update={"weights": card.weights.model_copy(update={"urls": urls})})
