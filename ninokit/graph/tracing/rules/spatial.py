"""Pooling, padding and resizing of positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule

__all__ = ["SPATIAL"]


def _positions(dims: int) -> Rule:
    """What acts along the last `dims` dimensions, on each channel alike."""

    def rule(call: Call) -> Axes | list[Axes]:
        axes = call.axes(0)
        ndim = len(axes.shape)
        axes = call.algebra.pin(axes, range(ndim - dims, ndim), "positions that are pooled or resized")
        axes = axes.differ(range(ndim - dims, ndim))  # as padding may count
        alike = tuple(same or size == 1 for same, size in zip(axes.alike, call.shape, strict=True))
        pooled = replace(axes, shape=tuple(call.shape), alike=alike)
        return [pooled, pooled] if isinstance(call.output, (tuple, list)) else pooled  # the indices of the largest

    return rule


def _unpool(dims: int) -> Rule:
    """Numbers put back to where indices say, along the last `dims` dimensions."""

    def rule(call: Call) -> Axes:
        ndim = len(call.shape)
        return call.algebra.beside([call.axes(0), call.axes(1)], range(ndim - dims, ndim), call.shape)

    return rule


def _unfold(call: Call) -> Axes:
    """``im2col``: the positions of a kernel stand beside the channels."""
    axes = call.axes(0)
    ndim = len(axes.shape)
    axes = call.algebra.pin(axes, range(ndim - 2, ndim), "positions of a kernel")
    *lead, channels, _, _ = axes.shape
    kernel, positions = call.shape[-2] // channels, call.shape[-1]
    # As if the numbers of a kernel's positions stood where the rows were.
    unfolded = replace(axes, shape=(*lead, channels, kernel, positions), alike=(*axes.alike[:-2], False, False))
    return call.algebra.reshape(unfolded, call.shape)


def _windows(call: Call) -> Axes:
    """``unfold``: the numbers of a window along a dimension stand along a new one, the last."""
    axes = call.axes(0)
    ndim = len(axes.shape)
    dim = call.dims(1, ndim)[0]
    axes = call.algebra.pin(axes, [dim], "positions of a window").unsqueeze(ndim)
    alike = (*axes.alike[:-1], axes.alike[dim])
    return replace(axes, shape=tuple(call.shape), alike=alike)


def _fold(call: Call) -> Axes:
    """``col2im``: the inverse, overlapping positions added."""
    axes = call.axes(0)
    *lead, _, positions = axes.shape
    channels = call.shape[-3]
    axes = axes.reshape((*lead, channels, axes.shape[-2] // channels, positions))
    ndim = len(axes.shape)
    axes = call.algebra.pin(axes, range(ndim - 2, ndim), "positions of a kernel")
    return replace(axes, shape=tuple(call.shape), alike=(*axes.alike[:-2], False, False))


_DIMS = {
    f"aten.{name.format(d=dims)}": _positions(dims)
    for dims in (1, 2, 3)
    for name in (
        "avg_pool{d}d",
        "max_pool{d}d",
        "max_pool{d}d_with_indices",
        "adaptive_avg_pool{d}d",
        "adaptive_max_pool{d}d",
        "upsample_nearest{d}d",
        "_upsample_nearest_exact{d}d",
        "reflection_pad{d}d",
        "replication_pad{d}d",
    )
}

SPATIAL: Mapping[str, Rule] = {
    **_DIMS,
    **{f"aten._adaptive_avg_pool{dims}d": _positions(dims) for dims in (2, 3)},
    **{
        f"aten.{name}": _positions(dims)
        for name, dims in {
            "upsample_linear1d": 1,
            "upsample_bilinear2d": 2,
            "_upsample_bilinear2d_aa": 2,
            "upsample_bicubic2d": 2,
            "_upsample_bicubic2d_aa": 2,
            "upsample_trilinear3d": 3,
        }.items()
    },
    "aten.max_unpool2d": _unpool(2),
    "aten.max_unpool3d": _unpool(3),
    "aten.im2col": _unfold,
    "aten.unfold": _windows,
    "aten.col2im": _fold,
}
