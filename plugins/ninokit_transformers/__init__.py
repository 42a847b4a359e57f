"""Neural graphs of transformers: Hugging Face's, torchvision's, and the layers of `torch.nn`."""

from __future__ import annotations

from collections.abc import Sequence

from ninokit import Architecture, hookimpl
from ninokit_transformers.encoder import encode, matches

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``transformers``."""
    return [Architecture("transformers", "attention and feed-forward layers on a residual stream", matches, encode)]
