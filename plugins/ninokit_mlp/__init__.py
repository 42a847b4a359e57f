"""Neural graphs of multilayer perceptrons: linear layers in a chain, with norms and activations between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit import hookimpl

if TYPE_CHECKING:
    from ninokit import Architecture

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``mlp``."""
    from ninokit import Architecture
    from ninokit_mlp.encoder import encode, examples, matches

    return [Architecture("mlp", "linear layers in a chain, with norms and activations", matches, encode, examples)]
