"""Operators that sum over dimensions, or otherwise reduce them whatever their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule

__all__ = ["REDUCTIONS"]


def _reduce(call: Call, dims: Sequence[int]) -> Axes:
    """Dimensions that are kept with size one are told by the result."""
    axes = call.axes(0)
    return call.algebra.reduce(axes, dims, keepdim=len(call.shape) == len(axes.shape))


def _first(call: Call) -> Axes:
    return _reduce(call, call.dims(1, len(call.axes(0).shape)))


def _second(call: Call) -> Axes:
    """The dimensions come after another argument, as the order of a norm."""
    return _reduce(call, call.dims(2, len(call.axes(0).shape)))


def _moments(call: Call) -> list[Axes]:
    return [_first(call)] * 2


def _extreme(call: Call) -> Axes | list[Axes]:
    """``max`` and ``min``: along a dimension they return the index too, which depends on the order."""
    if not isinstance(call.output, (tuple, list)):
        return _product(call) if len(call.tensors) > 1 else _first(call)
    return [_index_of_extreme(call)] * 2


def _index_of_extreme(call: Call) -> Axes:
    """``argmax`` and ``argmin``."""
    axes = call.axes(0)
    dims = call.dims(1, len(axes.shape))
    pinned = call.algebra.pin(axes, dims, "index of the largest")
    return call.algebra.reduce(pinned, dims, keepdim=len(call.shape) == len(axes.shape))


def _ranked(call: Call) -> list[Axes]:
    """``sort`` and ``topk``: numbers along a dimension by their size, and their indices."""
    axes = call.axes(0)
    names = [argument.name for argument in call.function._schema.arguments]
    place = names.index("dim")
    dim = (call.args[place] if place < len(call.args) else -1) % max(len(axes.shape), 1)
    ranked = call.algebra.pin(axes, [dim], "ranked").differ([dim])
    ranked = replace(ranked, shape=tuple(call.shape))
    return [ranked, ranked]


def _product(call: Call) -> Axes:
    return call.algebra.elementwise([call.axes(0), call.axes(1)]).expand(call.shape)


REDUCTIONS: Mapping[str, Rule] = {
    **{
        f"aten.{n}": _first
        for n in ("mean", "sum", "amax", "amin", "var", "std", "logsumexp", "prod", "any", "all", "nansum")
    },
    **{f"aten.{n}": _second for n in ("linalg_vector_norm", "norm")},
    "aten.var_mean": _moments,
    "aten.std_mean": _moments,
    "aten.argmax": _index_of_extreme,
    "aten.argmin": _index_of_extreme,
    "aten.sort": _ranked,
    "aten.topk": _ranked,
    "aten.max": _extreme,
    "aten.min": _extreme,
}
