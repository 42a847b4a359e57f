"""Operators that look numbers up, or write where an index says: which ones is not known, so their order is fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule
from ninokit.graph.tracing.elements import Usage

__all__ = ["INDEXING"]


def _embedding(call: Call) -> Axes:
    return _place_columns(_rows(call), call.axes(1), call)


def _embedding_bag(call: Call) -> Axes:
    """The sums of some rows."""
    rows = _rows(call)
    for tensor in call.tensors[1:]:
        call.algebra.pin_all(call.lookup(tensor), "used as an index")
    alike = (call.shape[0] == 1, *rows.alike[1:])
    return Axes(tuple(call.shape), (), alike).with_frames(rows.frames)


def _rows(call: Call) -> Axes:
    """A table, the order of whose rows is fixed."""
    weight = call.axes(0)
    rows = call.algebra.pin(weight, [0], "rows of a table")
    if weight.owned:
        call.algebra.use(weight, _usage(call.axes(1)))
        call.algebra.produce(rows)
    return rows


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
    axes = call.axes(0)
    looked = _look(call)
    table = call.algebra.pin(axes, looked.dims, "looked up by index")
    if axes.owned:
        call.algebra.use(axes, "position")
    before, after = looked.beside(len(axes.shape))
    frames = []
    for frame in table.frames:
        sizes = [frame.shape[dim] for dim in before] + [1] * looked.new + [frame.shape[dim] for dim in after]
        frames.append(frame.permute(*before, *looked.dims, *after).reshape(sizes))
    alike = (*(table.alike[dim] for dim in before), *[False] * looked.new, *(table.alike[dim] for dim in after))
    alike = tuple(same or size == 1 for same, size in zip(alike, call.shape, strict=True))
    return replace(table, shape=tuple(call.shape), alike=alike).with_frames(frames)


def _index_put(call: Call) -> Axes:
    """``tensor[indices] = values``, or ``+=`` if it accumulates."""
    axes, values = call.axes(0), call.axes(2)
    masks = [index for index in call.args[1] if index is not None]
    if len(masks) == 1 and _is_mask(masks[0]) and values.shape == () and call.args[1][0] is masks[0]:
        mask = call.lookup(masks[0])
        while len(mask.shape) < len(axes.shape):
            mask = mask.unsqueeze(len(mask.shape))
        return call.algebra.elementwise([axes, mask, values], stay=call.in_place).expand(call.shape)
    looked = _look(call)
    before, after = looked.beside(len(axes.shape))
    values = values.align(len(before) + looked.new + len(after))
    places = range(len(before), len(before) + looked.new)
    values = call.algebra.pin(values, places, "written by index").drop(places)
    for dim in sorted(looked.dims):
        values = values.unsqueeze(dim)
    accumulates = len(call.args) > 3 and call.args[3]
    return _beside(call, looked.dims, [axes, values], accumulates=accumulates)


@dataclass(frozen=True)
class _Look:
    """Where indices look.

    Attributes:
        dims: the dimensions of the tensor along which they look.
        new: how many dimensions the result has in their place.
    """

    dims: list[int]
    new: int

    def beside(self, ndim: int) -> tuple[list[int], list[int]]:
        """The other dimensions of the tensor, those before and those after the new ones in the result."""
        adjacent = self.dims == list(range(self.dims[0], self.dims[-1] + 1))
        kept = [dim for dim in range(ndim) if dim not in self.dims]
        before = [dim for dim in kept if dim < self.dims[0]] if adjacent else []
        return before, [dim for dim in kept if dim not in before]


def _look(call: Call) -> _Look:
    """Where the indices of an operator's second argument look, whose own order is fixed; a mask takes several dims."""
    dims: list[int] = []
    new = dim = 0
    for index in call.args[1]:
        if index is None:
            dim += 1
            continue
        call.algebra.pin_all(call.lookup(index), "used as an index")
        width = index.ndim if _is_mask(index) else 1
        dims += range(dim, dim + width)
        dim += width
        new = max(new, 1 if _is_mask(index) else index.ndim)
    return _Look(dims, new)


def _is_mask(index: Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _beside(call: Call, dims: Collection[int], operands: Sequence[Axes], *, accumulates: bool = False) -> Axes:
    if accumulates:
        return call.algebra.beside(operands, dims, call.shape, "add", "shift", stay=call.in_place)
    return call.algebra.beside(operands, dims, call.shape, usage="token", stay=call.in_place)


def _gather(call: Call) -> Axes:
    axes = call.axes(0)
    if axes.owned:
        call.algebra.use(axes, "position")
    return _beside(call, call.dims(1, len(call.shape)), [axes, call.axes(2)])


def _scatter(call: Call, *, accumulates: bool = False) -> Axes:
    """Numbers, or a number, written to where an index of their shape says."""
    index = call.axes(2)
    partly = [dim for dim, size in enumerate(index.shape) if size != call.shape[dim]]
    dims = {*call.dims(1, len(call.shape)), *partly}
    return _beside(call, dims, [call.axes(0), index, call.axes(3)], accumulates=accumulates)


def _index_copy(call: Call, *, accumulates: bool = False) -> Axes:
    """Slices, or a number, written to where an index of one dimension says."""
    call.algebra.pin_all(call.axes(2), "used as an index")
    operands = [call.axes(0), call.axes(3)]
    return _beside(call, call.dims(1, len(call.shape)), operands, accumulates=accumulates)


def _select_backward(call: Call) -> Axes:
    """Written to one index of a tensor of zeros."""
    dims = call.dims(2, len(call.shape))
    return _beside(call, dims, [call.axes(0).unsqueeze(dims[0])])


def _slice_backward(call: Call) -> Axes:
    """Written to a range of a tensor of zeros."""
    return _beside(call, call.dims(2, len(call.shape)), [call.axes(0)])


def _repack(call: Call, looked: int, new: int) -> list[Axes]:
    """Sequences packed or unpacked: the first dimensions are looked up, and some stand in their place."""
    first = range(looked)
    axes = call.algebra.pin(call.axes(0), first, "packed sequences").drop(first)
    for _ in range(new):
        axes = axes.unsqueeze(0)
    alike = tuple(size == 1 if dim < new else axes.alike[dim] for dim, size in enumerate(call.shape))
    return [replace(axes, shape=tuple(call.shape), alike=alike)]


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


def _fourier(call: Call) -> Axes:
    """Sums over dimensions, to which each place along them adds in another way."""
    axes = call.axes(0)
    dims = call.dims(1, len(axes.shape))
    return replace(call.algebra.pin(axes, dims, "order counts").differ(dims), shape=tuple(call.shape))


def _triangle(call: Call) -> Axes:
    axes = call.axes(0)
    dims = [len(axes.shape) - 2, len(axes.shape) - 1]
    return call.algebra.pin(axes, dims, "order counts").differ(dims)


INDEXING: Mapping[str, Rule] = {
    "aten.embedding": _embedding,
    "aten._embedding_bag": _embedding_bag,
    "aten._embedding_bag_forward_only": _embedding_bag,
    "aten._pack_padded_sequence": partial(_repack, looked=2, new=1),
    "aten._pad_packed_sequence": partial(_repack, looked=1, new=2),
    "aten.gather": _gather,
    "aten.index": _index,
    "aten.index_put": _index_put,
    "aten.scatter": _scatter,
    "aten.index_copy": _index_copy,
    "aten.index_fill": _index_copy,
    **{f"aten.{name}": partial(_scatter, accumulates=True) for name in ("scatter_add", "scatter_reduce")},
    **{f"aten.{name}": partial(_index_copy, accumulates=True) for name in ("index_add", "index_reduce")},
    "aten.index_select": _index_select,
    **{f"aten.{name}": _ordered for name in ("cumsum", "cumprod", "logcumsumexp")},
    **{f"aten._fft_{name}": _fourier for name in ("r2c", "c2r", "c2c")},
    "aten.select_backward": _select_backward,
    "aten.slice_backward": _slice_backward,
    "aten.tril": _triangle,
    "aten.triu": _triangle,
}
