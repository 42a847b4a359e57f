"""The tracer as an architecture, asked after all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit.hookspecs import hookimpl

if TYPE_CHECKING:
    from ninokit.encoding import Architecture

__all__ = ["ninokit_architectures"]


@hookimpl(trylast=True)
def ninokit_architectures() -> Sequence[Architecture]:
    """Register the family ``traced``."""
    from ninokit.graph.tracing.family import TRACED

    return [TRACED]
