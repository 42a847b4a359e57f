"""The nowcasters that take part in an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ninokit.errors import ConfigError
from ninokit.nowcasters import Nowcaster, load
from ninokit.plugins import registry
from ninokit.zoo import Card
from ninokit.zoo.card import CARD_FILE
from ninokit.zoo.sources import is_remote, is_source, resolve

__all__ = ["ADAMW", "TUNED", "Contender", "load_contenders"]

# The methods without nowcasting.
ADAMW = "AdamW"
TUNED = "AdamW tuned"


@dataclass(frozen=True)
class Contender:
    """A nowcaster under the name that tables call it by.

    Args:
        name: that of its card, of its checkpoint's file, or of its family.
        source: where it was loaded from, see `ninokit.nowcasters.load`.
        nowcaster: what predicts.
        card: what is known of it, if it has a card.
        card_path: where that lies, unless here is only a copy.
    """

    name: str
    source: str
    nowcaster: Nowcaster
    card: Card | None = None
    card_path: Path | None = None

    def distribution_of(self, task: str) -> Literal["in", "out"] | None:
        """Whether it was trained on a task; None if that is not known, or it was not trained at all."""
        return None if self.card is None else self.card.distribution_of(task)

    @property
    def weights_sha256(self) -> str | None:
        """A hash of its weights, whatever file they came from; None if it has none."""
        if not isinstance(self.nowcaster, nn.Module):
            return None
        digest = hashlib.sha256()
        for name, tensor in self.nowcaster.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_contenders(sources: Sequence[str]) -> list[Contender]:
    """Load nowcasters that can be told apart.

    Args:
        sources: of each, see `ninokit.nowcasters.load`; one that stands there twice counts once.

    Returns:
        The nowcasters, in their order.

    Raises:
        CheckpointError: if one of them can't be loaded.
        ConfigError: if two have one name, or one has that of a method without nowcasting.
    """
    different: dict[tuple[str, str | None], Contender] = {}
    for contender in map(_load, sources):  # one may have two spellings, such as a name with and without its tag
        different.setdefault((contender.name, contender.weights_sha256), contender)
    taken = {ADAMW.casefold(), TUNED.casefold()}
    for contender in different.values():
        if contender.name.casefold() in taken:
            raise ConfigError(
                f"nowcaster {contender.source!r}: another method is called {contender.name!r} too, and the tables "
                "could not tell them apart. Leave one out, or rename its file or its entry"
            )
        taken.add(contender.name.casefold())
    return list(different.values())


def _load(source: str) -> Contender:
    nowcaster = load(source)
    if not is_source(source):
        if source.endswith(".pt"):
            return Contender(Path(source).stem, source, nowcaster)
        if source in registry().nowcasters():
            return Contender(source, source, nowcaster)
    entry = resolve(source)
    card_path = None if is_remote(source) else entry.folder / CARD_FILE
    return Contender(entry.card.name, source, nowcaster, entry.card, card_path)
