"""Where a tensor lies in another one of the same memory."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ninokit.graph.tracing.axes import Axes

__all__ = ["Window", "find_window"]


@dataclass(frozen=True)
class Window:
    """A tensor as a range along each dimension of another one.

    Args:
        places: for each dimension of the outer tensor the inner one's that runs along it; None for a single index.
        parts: the dimensions of the outer tensor of which the inner one has a part.
    """

    places: tuple[int | None, ...]
    parts: tuple[int, ...]

    def lift(self, axes: Axes) -> Axes:
        """The inner tensor's axes with the outer one's dimensions, where it has one index of size one."""
        kept = [place for place in self.places if place is not None]
        left = sorted(kept)
        axes = axes.drop([dim for dim in range(len(axes.shape)) if dim not in kept])
        axes = axes.permute([left.index(place) for place in kept])
        for dim, place in enumerate(self.places):
            axes = axes.unsqueeze(dim) if place is None else axes
        return axes


def find_window(inner: Tensor, outer: Tensor) -> Window | None:
    """Find where a tensor lies in another one of the same memory.

    Args:
        inner: what select, narrow, permute and the like may have made of the other, or of what that is a part of.
        outer: the other one.

    Returns:
        Its place; None if it is not a range along each dimension, or one number of the outer tensor stands at several
        indices.
    """
    dims = sorted((d for d in range(outer.ndim) if outer.shape[d] > 1), key=outer.stride, reverse=True)
    if any(outer.stride(a) < outer.stride(b) * outer.shape[b] for a, b in pairwise(dims)):
        return None
    offset = int(inner.storage_offset()) - int(outer.storage_offset())
    waiting = {inner.stride(dim): dim for dim in range(inner.ndim) if inner.shape[dim] > 1}
    places: list[int | None] = [None] * outer.ndim
    parts = []
    for dim in dims:
        places[dim] = place = waiting.pop(outer.stride(dim), None)
        length = 1 if place is None else inner.shape[place]
        start, offset = divmod(offset, outer.stride(dim)) if outer.stride(dim) else (-1, offset)
        if not 0 <= start <= outer.shape[dim] - length:
            return None
        if length < outer.shape[dim]:
            parts.append(dim)
    return None if waiting or offset else Window(tuple(places), tuple(parts))
