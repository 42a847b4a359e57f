"""Neural graphs of timm's networks, from the sizes in their configurations; and tasks to compare on."""

from __future__ import annotations

from collections.abc import Sequence

from ninokit import Architecture, hookimpl
from ninokit_timm.encoder import encode, examples, matches

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``timm``."""
    description = "timm's networks, traced on inputs of the size in their configuration"
    return [Architecture("timm", description, matches, encode, examples)]
