"""Entries in repositories of the Hugging Face Hub, through its own library: its cache, its tokens, its offline mode."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ninokit._optional import require
from ninokit.errors import ZooError
from ninokit.zoo.card import CARD_FILE, Card, format_card, read_card
from ninokit.zoo.entry import Entry
from ninokit.zoo.settings import offline_by

__all__ = ["PREFIX", "fetch_card", "fetch_entry", "push_entry"]

PREFIX = "hf-hub:"

_REPOSITORY = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\S+))?")


def fetch_card(repository: str) -> Card:
    """Fetch the card of the entry that a repository is.

    Args:
        repository: see `fetch_entry`.

    Returns:
        The card.

    Raises:
        ZooError: see `fetch_entry`.
        DependencyError: if huggingface_hub is not installed.
    """
    return read_card(_fetched(repository, CARD_FILE) / CARD_FILE)


def fetch_entry(repository: str) -> Entry:
    """Fetch the entry that a repository is: its card, then the one file of weights that this names.

    Args:
        repository: ``owner/name``, or ``owner/name@revision`` for a branch, a tag or a commit; a commit never changes.

    Returns:
        The entry, in the cache of huggingface_hub.

    Raises:
        ZooError: if there is no such repository or revision, it holds no entry, or the hub can't be reached.
        DependencyError: if huggingface_hub is not installed.
    """
    weights = fetch_card(repository).weights
    return Entry.open(_fetched(repository, CARD_FILE, *([] if weights is None else [weights.file])))


def _fetched(repository: str, *files: str) -> Path:
    """The folder of some files of a repository, in the cache of huggingface_hub."""
    name, revision = _parse(repository)
    library = _library(f"{PREFIX}{repository}")
    with _explained(f"{PREFIX}{repository}"):
        folder = library.snapshot_download(
            name, revision=revision, allow_patterns=list(files), local_files_only=bool(offline_by())
        )
    return Path(folder)


def push_entry(entry: Entry, repository: str) -> str:
    """Upload an entry to a repository, which is made if there is none.

    Args:
        entry: with its weights beside the card.
        repository: ``owner/name``, or ``owner/name@branch``.

    Returns:
        The address of the commit.

    Raises:
        ZooError: if the hub can't be reached or refuses.
        DependencyError: if huggingface_hub is not installed.
    """
    name, revision = _parse(repository)
    library = _library(f"push to {repository}")
    files = {
        CARD_FILE: format_card(entry.card).encode("utf-8"),
        entry.weights.file: entry.folder / entry.weights.file,
        "README.md": _readme(entry).encode("utf-8"),
    }
    operations = [
        library.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()
    ]
    with _explained(f"push to {repository}"):
        api = library.HfApi()
        api.create_repo(name, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        commit = api.create_commit(name, operations, commit_message=f"Add {entry.card.name}", revision=revision)
    return str(commit.commit_url)


def _readme(entry: Entry) -> str:
    """The page of the repository, with the fields that the hub reads."""
    from ninokit.zoo.page import render_card

    fields = f"license: {entry.card.licence.lower()}\nlibrary_name: ninokit\ntags: [nowcasting, neural-graphs]"
    return f"---\n{fields}\n---\n\n{render_card(entry.card)}"


def _parse(repository: str) -> tuple[str, str | None]:
    match = _REPOSITORY.fullmatch(repository)
    if match is None:
        raise ZooError(f"hub: expected owner/name or owner/name@revision, got {repository!r}")
    return match["name"], match["revision"]


def _library(purpose: str) -> ModuleType:
    return require("huggingface_hub", purpose, "hub")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say what failed; which errors there are differs from version to version of the library."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ZooError(f"{what}: {type(error).__name__}: {reason}") from error
