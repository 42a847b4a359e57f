"""Operators that look numbers up: which ones is not known, so what is looked up among keeps its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule
from ninokit.graph.tracing.elements import Usage

__all__ = ["INDEXING"]


def _embedding(call: Call) -> Axes:
    weight = call.axes(0)
    rows = call.algebra.pin(weight, [0], "rows of a table")
    if weight.owned:
        call.algebra.use(weight, _usage(call.lookup(call.args[1])))
        call.algebra.produce(rows)
    return _place_columns(rows, call.lookup(call.args[1]), call)


def _usage(indices: Axes) -> Usage:
    """What a table of rows is: of tokens, if the network is told which; else of positions, or of one row alone."""
    if indices.data:
        return "token"
    return "shift" if all(indices.alike) else "position"


def _place_columns(table: Axes, indices: Axes, call: Call) -> Axes:
    lead = len(indices.shape)
    frames = [frame.unsqueeze(lead) for frame in indices.frames]
    frames += [frame.reshape([1] * lead + list(frame.shape[1:])) for frame in table.frames]
    alike = (*indices.alike, *table.alike[1:])
    return Axes(tuple(call.shape), (), alike).with_frames(frames)


def _index(call: Call) -> Axes:
    axes, indices = call.axes(0), call.args[1]
    looked = [dim for dim, index in enumerate(indices) if index is not None]
    table = call.algebra.pin(axes, looked, "looked up by index")
    if axes.owned:
        call.algebra.use(axes, "position")
    if any(
        indices[dim].dtype.is_floating_point is False and str(indices[dim].dtype) in {"torch.bool", "torch.uint8"}
        for dim in looked
    ):
        call.algebra.pin_all(table, "masked")
        return Axes.constant(call.shape)
    found = [call.lookup(index) for index in indices if isinstance(index, Tensor)]
    for index in found:
        call.algebra.pin_all(index, "used as an index")
    new = max(len(index.shape) for index in found)
    adjacent = looked == list(range(looked[0], looked[-1] + 1))
    kept = [dim for dim in range(len(axes.shape)) if dim not in looked]
    before = [dim for dim in kept if dim < looked[0]] if adjacent else []
    after = [dim for dim in kept if dim not in before]
    frames = []
    for frame in table.frames:
        sizes = [frame.shape[dim] for dim in before] + [1] * new + [frame.shape[dim] for dim in after]
        frames.append(frame.permute(*before, *looked, *after).reshape(sizes))
    alike = (*(table.alike[dim] for dim in before), *[False] * new, *(table.alike[dim] for dim in after))
    alike = tuple(same or size == 1 for same, size in zip(alike, call.shape, strict=True))
    return replace(table, shape=tuple(call.shape), alike=alike).with_frames(frames)


def _index_select(call: Call) -> Axes:
    axes = call.axes(0)
    dim = call.args[1] % max(len(axes.shape), 1)
    table = call.algebra.pin(axes, [dim], "looked up by index")
    if axes.owned:
        call.algebra.use(axes, "position")
    return replace(table, shape=tuple(call.shape))


def _ordered(call: Call) -> Axes:
    """``cumsum`` and others that go through a dimension in order."""
    axes = call.axes(0)
    dims = call.dims(1, len(axes.shape))[:1]
    return call.algebra.pin(axes, dims, "order counts").differ(dims)


def _triangle(call: Call) -> Axes:
    axes = call.axes(0)
    dims = [len(axes.shape) - 2, len(axes.shape) - 1]
    return call.algebra.pin(axes, dims, "order counts").differ(dims)


INDEXING: Mapping[str, Rule] = {
    "aten.embedding": _embedding,
    "aten.index": _index,
    "aten.index_select": _index_select,
    **{f"aten.{name}": _ordered for name in ("cumsum", "cumprod", "logcumsumexp")},
    "aten.tril": _triangle,
    "aten.triu": _triangle,
}
