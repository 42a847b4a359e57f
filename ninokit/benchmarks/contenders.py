"""Nowcasters that are measured, under the names that tables call them by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ninokit.errors import ConfigError
from ninokit.nowcasters import Nowcaster, load
from ninokit.plugins import registry
from ninokit.zoo.sources import is_source, resolve

__all__ = ["Contender", "load_contenders"]


@dataclass(frozen=True)
class Contender:
    """A nowcaster under the name that tables call it by.

    Args:
        name: that of its card, of its checkpoint's file, or of its family.
        source: where it was loaded from, see `ninokit.nowcasters.load`.
        nowcaster: what predicts.
    """

    name: str
    source: str
    nowcaster: Nowcaster

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
        ConfigError: if two have one name.
    """
    different: dict[tuple[str, str | None], Contender] = {}
    for contender in map(_load, sources):  # one may have two spellings, such as a name with and without its tag
        different.setdefault((contender.name, contender.weights_sha256), contender)
    taken: set[str] = set()
    for contender in different.values():
        if contender.name.casefold() in taken:
            raise ConfigError(
                f"nowcaster {contender.source!r}: another one is called {contender.name!r} too, and the tables could "
                "not tell them apart. Leave one out, or rename its file or its entry"
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
    return Contender(resolve(source).card.name, source, nowcaster)
