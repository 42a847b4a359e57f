"""Neural graphs of multilayer perceptrons: linear layers in a chain, with norms and activations between them."""

from __future__ import annotations

from collections.abc import Sequence

from ninokit import Architecture, hookimpl
from ninokit_mlp.encoder import encode, examples, matches

__all__ = ["ninokit_architectures"]


@hookimpl
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``mlp``."""
    return [Architecture("mlp", "linear layers in a chain, with norms and activations", matches, encode, examples)]
