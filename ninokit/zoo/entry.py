"""An entry of the zoo: a folder with a card and, unless they are fetched, the weights."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ninokit.errors import CheckpointError, ZooError
from ninokit.zoo.card import CARD_FILE, Card, WeightsFile, read_card, write_card

if TYPE_CHECKING:
    from torch import nn

    from ninokit.nowcasters.base import Nowcaster

__all__ = ["WEIGHTS_FILE", "Entry", "build", "copy_entry", "read_entry", "write_entry"]

WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Entry:
    """A folder with a checked card.

    Args:
        folder: where the card is.
        card: what it says.
        weights: its part about the weights.
    """

    folder: Path
    card: Card
    weights: WeightsFile

    @classmethod
    def open(cls, folder: Path) -> Entry:
        """Read the card of an entry; the weights are left alone.

        Args:
            folder: with a ``card.yaml``.

        Returns:
            The entry.

        Raises:
            ZooError: if there is no card, or it is malformed or does not say what file the weights are in.
        """
        path = Path(folder) / CARD_FILE
        card = read_card(path)
        if card.weights is None:
            raise ZooError(f"{path}: weights: this field is missing")
        return cls(Path(folder), card, card.weights)


def read_entry(folder: str | Path) -> Nowcaster:
    """Load the nowcaster of an entry whose weights lie in its folder.

    Args:
        folder: with ``card.yaml`` and the file of weights that it names.

    Returns:
        The nowcaster, in evaluation mode.

    Raises:
        CheckpointError: if the card is malformed (`ZooError`), the weights have another hash than it says, or are not
            those of the nowcaster that it describes.

    Example:
        >>> read_entry("zoo/wnn_h32.mine")  # doctest: +SKIP
    """
    entry = Entry.open(Path(folder))
    return build(entry.card, entry.folder / entry.weights.file, entry.weights.sha256)


def build(card: Card, path: Path, sha256: str) -> Nowcaster:
    """Build the nowcaster that a card describes.

    Args:
        card: of the nowcaster.
        path: its weights in safetensors.
        sha256: their hash.

    Returns:
        The nowcaster, in evaluation mode.

    Raises:
        CheckpointError: see `read_entry`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ninokit.nowcasters.weights import fill, read_verified

    nowcaster = _empty(card)
    data = read_verified(path, sha256)
    try:
        state = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is no safetensors file ({error})") from error
    fill(nowcaster, state, str(path))
    return nowcaster  # type: ignore[return-value]  # _empty has seen to it that it is a nowcaster too


def write_entry(folder: str | Path, nowcaster: Nowcaster, card: Card) -> Card:
    """Write an entry: whole, or not at all.

    It is read back before it takes its place, so that what is written can be loaded.

    Args:
        folder: to make; its parents are made if they are missing.
        nowcaster: a `torch.nn.Module` of the card's family.
        card: what to say of it; its part about the weights is filled in.

    Returns:
        The card as written.

    Raises:
        ZooError: if the folder exists, or nowcaster and card do not fit.
        CheckpointError: if what was written does not load.

    Example:
        >>> write_entry("zoo/wnn_h32.mine", nowcaster, card)  # doctest: +SKIP
    """
    module = _as_module(nowcaster, card)
    with _made_whole(Path(folder)) as unfinished:
        return _write(unfinished, module, card)


def copy_entry(entry: Entry, weights: Path, folder: Path) -> None:
    """Write an entry as it is, whole or not at all.

    Args:
        entry: whose weights are in safetensors.
        weights: the file of its weights, wherever it lies.
        folder: to make.

    Raises:
        ZooError: if the folder exists.
        CheckpointError: if the weights are not those of the entry.
    """
    with _made_whole(folder) as unfinished:
        shutil.copyfile(weights, unfinished / entry.weights.file)
        write_card(entry.card, unfinished / CARD_FILE)


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is read as an entry and then takes its place; if either fails, nothing is left."""
    if folder.exists():
        raise ZooError(f"{folder}: exists already; remove it, or choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        read_entry(unfinished)
        unfinished.chmod(0o755)  # mkdtemp makes folders that nobody else reads
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, module: nn.Module, card: Card) -> Card:
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})
    (folder / WEIGHTS_FILE).write_bytes(data)
    weights = WeightsFile(file=WEIGHTS_FILE, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    written = card.model_copy(update={"weights": weights})
    write_card(written, folder / CARD_FILE)
    return written


def _empty(card: Card) -> nn.Module:
    """The nowcaster that a card describes, with any weights."""
    from ninokit.nowcasters.weights import about_to_fill

    try:
        with about_to_fill():
            nowcaster = _family(card)(**card.arguments)
    except Exception as error:  # a family may be a stranger's
        raise ZooError(
            f"card of {card.name}: arguments: {card.family} can't be built with {card.arguments}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _as_module(nowcaster, card)


def _as_module(nowcaster: Nowcaster, card: Card) -> nn.Module:
    """Check that nowcaster and card fit."""
    from torch import nn

    family = _family(card)
    if type(nowcaster) is not family:
        raise ZooError(
            f"card of {card.name}: family: {card.family!r} is {family.__name__}, got a {type(nowcaster).__name__}"
        )
    if not isinstance(nowcaster, nn.Module):
        raise ZooError(f"card of {card.name}: family: {card.family!r} has no weights to store; use it by its name")
    for name in ("context", "max_horizon"):
        if getattr(nowcaster, name) != getattr(card, name):
            raise ZooError(
                f"card of {card.name}: {name}: the nowcaster has {getattr(nowcaster, name)}, "
                f"the card says {getattr(card, name)}"
            )
    return nowcaster


def _family(card: Card) -> type[Nowcaster]:
    from ninokit.plugins import registry

    families = registry().nowcasters()
    if card.family not in families:
        raise ZooError(
            f"card of {card.name}: family: expected one of {sorted(families)}, got {card.family!r}; install the "
            f"plugin that brings it"
        )
    return families[card.family]
