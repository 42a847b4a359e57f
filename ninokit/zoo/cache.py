"""Fetched nowcasters, kept on this machine as entries like any other.

``entries/NAME-HASH/`` is a whole entry, converted if it was fetched in the published form; ``downloads/HASH.part`` is
what has arrived of an interrupted download; ``locks/`` makes processes wait for each other.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ninokit.errors import CheckpointError, ZooError
from ninokit.zoo.card import WeightsFile
from ninokit.zoo.entry import Entry, copy_entry, write_entry
from ninokit.zoo.http import download
from ninokit.zoo.settings import cache_folder, mirror, offline_by

__all__ = ["cached_folder", "complete", "whereabouts", "writing_to_cache"]

_log = logging.getLogger(__name__)


def cached_folder(entry: Entry) -> Path:
    """Where a fetched entry is kept.

    Args:
        entry: any.

    Returns:
        A folder, which need not exist.
    """
    return cache_folder() / "entries" / f"{entry.card.name}-{entry.weights.sha256[:16]}"


def whereabouts(entry: Entry) -> str:
    """Where an entry's weights are.

    Args:
        entry: any.

    Returns:
        ``here`` (beside its card), ``cached`` or ``to fetch``.
    """
    if (entry.folder / entry.weights.file).is_file():
        return "here"
    return "cached" if cached_folder(entry).is_dir() else "to fetch"


def complete(entry: Entry) -> Entry:
    """The entry with its weights in safetensors beside the card: itself, or as it is kept in the cache.

    What is not there yet is fetched, checked and converted first.

    Args:
        entry: any.

    Returns:
        An entry whose folder has everything.

    Raises:
        CheckpointError: if the weights can't be had (`ZooError`), or are not what the card says.
    """
    own = entry.folder / entry.weights.file
    if own.is_file() and own.suffix == ".safetensors":
        return entry
    folder = cached_folder(entry)
    if not _intact(folder):
        with writing_to_cache(entry.card.name), _locked(entry.weights.sha256):
            if not _intact(folder):  # no other process has been faster
                _make(folder, entry, own)
    # The weights alone are the cache's word: the card may have been corrected since they were fetched.
    weights = Entry.open(folder).weights
    return Entry(folder, entry.card.model_copy(update={"weights": weights}), weights)


@contextmanager
def writing_to_cache(what: str) -> Iterator[None]:
    """Say what to do where the cache can't be written.

    Args:
        what: is written, for the message.

    Raises:
        ZooError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise ZooError(
            f"{what}: the cache {cache_folder()} can't be written ({error.strerror or error}); make room there, or "
            f"name another folder by NINOKIT_CACHE"
        ) from error


def _intact(folder: Path) -> bool:
    """Whether an entry is in the cache, undamaged."""
    if not folder.exists():
        return False
    from ninokit.nowcasters.weights import read_verified

    try:
        entry = Entry.open(folder)
        read_verified(folder / entry.weights.file, entry.weights.sha256)
    except CheckpointError as error:
        _log.warning("%s; it is fetched again", error)
        return False
    return True


def _make(folder: Path, entry: Entry, own: Path) -> None:
    for old in (folder, *folder.parent.glob(f".{folder.name}-*")):  # damaged, and what a killed process has left
        shutil.rmtree(old, ignore_errors=True)
    if own.is_file():
        _store(folder, entry, own)
        return
    part = cache_folder() / "downloads" / f"{entry.weights.sha256}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(entry, part)
    except OSError:  # a full disk: make room
        part.unlink(missing_ok=True)
        raise
    try:
        _store(folder, entry, part)
    finally:
        part.unlink()


def _store(folder: Path, entry: Entry, file: Path) -> None:
    from ninokit.nowcasters.published import read_published

    if entry.weights.file.endswith(".pt"):
        write_entry(folder, read_published(file, sha256=entry.weights.sha256), entry.card)
    else:
        copy_entry(entry, file, folder)


def _fetch(entry: Entry, part: Path) -> None:
    """Get the weights from the first place that has them."""
    faults = []
    for place in _places(entry.weights):
        try:
            _fetch_from(place, part, entry.weights)
        except CheckpointError as error:
            _log.info("%s: %s", entry.card.name, error)
            faults.append(str(error))
        else:
            return
    forbidden = offline_by()
    if forbidden:
        faults.append(f"{forbidden} forbids the network")
    reasons = "; ".join(faults) or "its card names no place to fetch them from"
    raise ZooError(f"{entry.card.name}: the weights {entry.weights.file} can't be had: {reasons}")


def _places(weights: WeightsFile) -> list[str | Path]:
    """Where the weights may be: the mirror, then the addresses on the card; no address while offline."""
    urls, first = list(weights.urls), mirror()
    folder = None
    if first is not None:
        if "://" in first:
            urls.insert(0, f"{first.rstrip('/')}/{weights.file}")
        else:
            folder = Path(first).expanduser() / weights.file
    places: list[str | Path] = [] if folder is None else [folder]
    return places if offline_by() else [*places, *urls]


def _fetch_from(place: str | Path, part: Path, weights: WeightsFile) -> None:
    if isinstance(place, Path):
        if not place.is_file():
            raise ZooError(f"{place}: is not there")
        shutil.copyfile(place, part)
        _check_or_remove(part, weights, place)
        return
    resumed = part.exists()
    download(place, part, weights.size)
    try:
        _check_or_remove(part, weights, place)
    except CheckpointError:
        if not resumed:
            raise
        # The bytes from before may have been the wrong ones.
        download(place, part, weights.size)
        _check_or_remove(part, weights, place)


def _check_or_remove(part: Path, weights: WeightsFile, place: str | Path) -> None:
    from ninokit.nowcasters.weights import read_verified

    try:
        read_verified(part, weights.sha256, str(place))
    except CheckpointError:
        part.unlink()
        raise


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Let one process at a time do something; the others wait."""
    from filelock import FileLock

    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        yield
