"""Softmax and the norms: numbers along some dimensions act on each other, whatever their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule

__all__ = ["NORMS"]


def _softmax(call: Call) -> Axes:
    axes = call.axes(0)
    bound = call.algebra.slices(axes, call.dims(1, len(axes.shape)))
    if axes.paired is None:
        return bound
    for elements, kind in zip(axes.paired, (EdgeKind.QUERY, EdgeKind.KEY), strict=True):
        call.algebra.elements.kinds.append((elements, kind))
    return replace(bound, paired=None, attends=True)


def _affine(call: Call, axes: Axes, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Axes:
    """Scale and shift along the dimensions that `shape` names, by parameters of as many numbers."""
    for parameter, mode, usage in ((weight, "multiply", "norm"), (bias, "add", "shift")):
        if parameter is not None:
            vector = call.lookup(parameter).reshape(shape)
            axes = call.algebra.elementwise([axes, vector], mode, usage)  # type: ignore[arg-type]
    return axes


def _layer_norm(call: Call) -> list[Axes | None]:
    return [_last_dims(call, call.args[2], call.args[3]), None, None]


def _rms_norm(call: Call) -> list[Axes | None]:
    return [_last_dims(call, call.args[2] if len(call.args) > 2 else None, None), None]


def _last_dims(call: Call, weight: Tensor | None, bias: Tensor | None) -> Axes:
    """A norm over the last dimensions, whose sizes are the second argument."""
    normalized = tuple(call.args[1])
    axes = call.axes(0)
    ndim = len(axes.shape)
    axes = call.algebra.slices(axes, range(ndim - len(normalized), ndim))
    return _affine(call, axes, weight, bias, normalized)


def _group_norm(call: Call) -> list[Axes | None]:
    axes, weight, bias, groups = call.axes(0), call.args[1], call.args[2], call.args[6]
    batch, channels, *rest = axes.shape
    if 1 < groups < channels:
        cut = axes.reshape((batch, groups, channels // groups, *rest))
        cut = call.algebra.slices(cut, range(2, len(cut.shape)))
        axes = cut.reshape(axes.shape)
    return [_affine(call, axes, weight, bias, (channels, *[1] * len(rest))), None, None]


def _batch_norm(call: Call) -> list[Axes | None]:
    axes, weight, bias = call.axes(0), call.args[1], call.args[2]
    rest = len(axes.shape) - 2
    axes = _affine(call, axes, weight, bias, (axes.shape[1], *[1] * rest))
    more = len(call.output) - 1 if isinstance(call.output, (tuple, list)) else 0
    return [replace(axes, shape=tuple(call.shape)), *[None] * more]


def _weight_norm(call: Call) -> list[Axes | None]:
    """``first * second / norm(first)``, the norm over all dimensions but one."""
    weight, scale, dim = call.axes(0), call.axes(1), call.args[2] if len(call.args) > 2 else 0
    others = [other for other in range(len(weight.shape)) if other != dim % len(weight.shape)]
    norms = call.algebra.reduce(weight, others, keepdim=True)
    call.algebra.use(scale, "scale")
    return [call.algebra.elementwise([weight, norms, scale]), norms]


NORMS: Mapping[str, Rule] = {
    **{f"aten.{name}": _softmax for name in ("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")},
    "aten.native_layer_norm": _layer_norm,
    "aten._fused_rms_norm": _rms_norm,
    "aten._weight_norm_interface": _weight_norm,
    "aten.native_group_norm": _group_norm,
    **{
        f"aten.{name}": _batch_norm
        for name in (
            "native_batch_norm",
            "_native_batch_norm_legit",
            "_native_batch_norm_legit_no_training",
            "_batch_norm_no_update",
            "_batch_norm_with_update",
            "cudnn_batch_norm",
        )
    },
}
