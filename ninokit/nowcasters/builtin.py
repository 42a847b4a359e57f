"""The built-in nowcaster families, registered as any plugin's would be."""

from __future__ import annotations

from collections.abc import Mapping

from ninokit.hookspecs import hookimpl
from ninokit.nowcasters.base import Nowcaster
from ninokit.nowcasters.linefit import LineFit
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.published import PublishedNino
from ninokit.nowcasters.wnn import Wnn

__all__ = ["ninokit_nowcasters"]


@hookimpl
def ninokit_nowcasters() -> Mapping[str, type[Nowcaster]]:
    """Register ``linefit``, ``wnn``, ``nino``, and ``published_nino`` for the weights published with the paper."""
    return {"linefit": LineFit, "wnn": Wnn, "nino": Nino, "published_nino": PublishedNino}
