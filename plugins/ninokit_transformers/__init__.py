"""Neural graphs of transformers: Hugging Face's, torchvision's, and the layers of `torch.nn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit import hookimpl

if TYPE_CHECKING:
    from ninokit import Architecture

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``transformers``."""
    from ninokit import Architecture
    from ninokit_transformers.encoder import encode, examples, matches

    description = "attention and feed-forward layers on a residual stream: Hugging Face, torchvision, torch.nn"
    return [Architecture("transformers", description, matches, encode, examples)]
