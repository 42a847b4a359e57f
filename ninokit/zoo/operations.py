"""What can be done with an entry, given by its name or another source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ninokit.errors import ZooError
from ninokit.zoo import hub
from ninokit.zoo.cache import complete
from ninokit.zoo.entry import build, copy_entry
from ninokit.zoo.sources import resolve

if TYPE_CHECKING:
    from ninokit.nowcasters.base import Nowcaster
    from ninokit.zoo.card import Card

__all__ = ["download", "export", "info", "load", "push", "verify"]


def info(source: str) -> Card:
    """The card of a nowcaster; its weights are not fetched.

    Args:
        source: a name of the zoo such as ``nino_h128.published``, or ``nino_h128`` for its default tag;
            ``local-dir:FOLDER``; ``hf-hub:owner/name@revision``; or the ``https://`` address of an entry's folder.

    Returns:
        The card.

    Raises:
        ZooError: if there is no such nowcaster, or its card is malformed or can't be fetched.
        DependencyError: if a source of the hub is asked for without huggingface_hub.

    Example:
        >>> info("nino_h128").max_horizon
        40
    """
    if source.startswith(hub.PREFIX):
        return hub.fetch_card(source.removeprefix(hub.PREFIX))
    return resolve(source).card


def load(source: str, *, sha256: str | None = None) -> Nowcaster:
    """Load a nowcaster, fetching its weights once if they are not on this machine.

    Args:
        source: see `info`.
        sha256: the hash of the weights, if it is to be another one's word than the card's.

    Returns:
        The nowcaster, in evaluation mode.

    Raises:
        CheckpointError: if it can't be had (`ZooError`), or the weights are not what the card says.
        DependencyError: see `info`.

    Example:
        >>> load("wnn_h32.v1").context
        5
    """
    entry = resolve(source)
    if sha256 is not None and sha256.lower() != entry.weights.sha256:
        raise ZooError(f"{source}: expected weights of sha256 {sha256.lower()}, its card has {entry.weights.sha256}")
    kept = complete(entry)
    return build(kept.card, kept.folder / kept.weights.file, kept.weights.sha256)


def download(source: str) -> Path:
    """See to it that a nowcaster can be loaded without a network.

    Args:
        source: see `info`.

    Returns:
        The folder of its entry on this machine.

    Raises:
        CheckpointError: see `load`.
        DependencyError: see `info`.
    """
    return complete(resolve(source)).folder


def verify(source: str) -> Path:
    """Check a nowcaster that is on this machine, or fetch it: its card, its hash, that its weights fit.

    Args:
        source: see `info`.

    Returns:
        The file of weights that was checked.

    Raises:
        CheckpointError: see `load`.
        DependencyError: see `info`.
    """
    kept = complete(resolve(source))
    path = kept.folder / kept.weights.file
    build(kept.card, path, kept.weights.sha256)
    return path


def export(source: str, target: Path) -> Path:
    """Write a nowcaster elsewhere.

    Args:
        source: see `info`.
        target: a file that ends in ``.pt`` gets a checkpoint that the code published with the paper reads; else a
            folder is made, with card and weights.

    Returns:
        The target.

    Raises:
        ZooError: if the target exists, or a nowcaster is not of a family that the published code knows.
        CheckpointError: see `load`.
        DependencyError: see `info`.
    """
    if target.suffix == ".pt":
        return _export_published(source, target)
    kept = complete(resolve(source))
    copy_entry(kept, kept.folder / kept.weights.file, target)
    return target


def push(source: str, repository: str) -> str:
    """Upload a nowcaster to the Hugging Face Hub.

    Args:
        source: see `info`.
        repository: ``owner/name`` or ``owner/name@branch``; made if there is none.

    Returns:
        The address of the commit.

    Raises:
        ZooError: if the hub can't be reached or refuses.
        CheckpointError: see `load`.
        DependencyError: if huggingface_hub is not installed.
    """
    return hub.push_entry(complete(resolve(source)), repository)


def _export_published(source: str, target: Path) -> Path:
    import torch

    from ninokit.nowcasters import Nino, Wnn
    from ninokit.nowcasters.published import to_published

    nowcaster = load(source)
    if not isinstance(nowcaster, Nino | Wnn):
        raise ZooError(f"{source}: the published code knows no {type(nowcaster).__name__}; export it to a folder")
    if target.exists():
        raise ZooError(f"{target}: exists already; remove it, or choose another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(to_published(nowcaster), target)
    return target
