"""The nowcaster families that ship with ninokit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ninokit.hookspecs import hookimpl

if TYPE_CHECKING:
    from ninokit.nowcasters.base import Nowcaster

__all__ = ["ninokit_nowcasters"]


@hookimpl
def ninokit_nowcasters() -> Mapping[str, type[Nowcaster]]:
    """Register ``linefit``, ``wnn``, ``nino``, and ``published_nino`` for the weights published with the paper."""
    from ninokit.nowcasters import LineFit, Nino, Wnn
    from ninokit.nowcasters.published import PublishedNino

    return {"linefit": LineFit, "wnn": Wnn, "nino": Nino, "published_nino": PublishedNino}
