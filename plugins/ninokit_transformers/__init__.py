"""Neural graphs of transformers: Hugging Face's, torchvision's, and the layers of `torch.nn`."""

from __future__ import annotations

from collections.abc import Sequence

from ninokit import Architecture, hookimpl
from ninokit_transformers.encoder import encode, examples, matches

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``transformers``."""
    description = "attention and feed-forward layers on a residual stream: Hugging Face, torchvision, torch.nn"
    return [Architecture("transformers", description, matches, encode, examples)]
