"""Neural graphs of plain convolutional networks: convolutions in a chain, then pooling or flattening, then a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit import hookimpl

if TYPE_CHECKING:
    from ninokit import Architecture

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``cnn``."""
    from ninokit import Architecture
    from ninokit_cnn.encoder import encode, examples, matches

    return [
        Architecture("cnn", "convolutions in a chain, with norms, pooling and a linear head", matches, encode, examples)
    ]
