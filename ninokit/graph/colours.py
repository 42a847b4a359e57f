"""The colours of the kinds of edges in pictures."""

from __future__ import annotations

from collections.abc import Mapping

from ninokit.graph.kinds import EdgeKind

__all__ = ["COLOURS"]

COLOURS: Mapping[EdgeKind, str] = {
    EdgeKind.PADDING: "#eeeeee",
    EdgeKind.LINEAR: "#0072b2",
    EdgeKind.BIAS: "#8a8a8a",
    EdgeKind.CONVOLUTION: "#009e73",
    EdgeKind.NORM_SCALE: "#e69f00",
    EdgeKind.TOKEN_EMBEDDING: "#7b3294",
    EdgeKind.POSITION_EMBEDDING: "#d186c0",
    EdgeKind.QUERY: "#d55e00",
    EdgeKind.KEY: "#56b4e9",
    EdgeKind.VALUE: "#8c8c00",
    EdgeKind.RESIDUAL: "#333333",
    EdgeKind.ATTENTION_HEAD: "#a0522d",
    EdgeKind.SELF_LOOP: "#c8c8c8",
}
