"""Neural graphs of plain convolutional networks: convolutions in a chain, then pooling or flattening, then a head."""

from __future__ import annotations

from collections.abc import Sequence

from ninokit import Architecture, hookimpl
from ninokit_cnn.encoder import encode, examples, matches

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``cnn``."""
    return [
        Architecture("cnn", "convolutions in a chain, with norms, pooling and a linear head", matches, encode, examples)
    ]
