"""Operators that move numbers without a change: they run on the frames themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ninokit.graph.tracing.axes import Axes, code, element_of, place_of
from ninokit.graph.tracing.call import Call, Rule

__all__ = ["MOVEMENT"]


def _reshape(call: Call) -> Axes:
    return call.algebra.reshape(call.axes(0), call.shape)


def _expand(call: Call) -> Axes:
    return call.axes(0).expand(call.shape)


def _permute(call: Call) -> Axes:
    axes = call.axes(0)
    return axes.permute(call.dims(1, len(axes.shape)) if axes.shape else [])


def _transpose(call: Call) -> Axes:
    axes = call.axes(0)
    order = list(range(len(axes.shape)))
    first, second = (call.args[1], call.args[2]) if len(call.args) > 2 else (-1, 0)
    if len(order) > 1:
        order[first], order[second] = order[second], order[first]
    return axes.permute(order)


def _cut(call: Call) -> Axes:
    """``slice`` and ``narrow``: a range along a dimension."""
    return _cut_along(
        call, call.args[1] if len(call.args) > 1 else 0, call.output, lambda frame: call.function(frame, *call.args[1:])
    )


def _cut_along(call: Call, dim: int, output: Tensor, cut: Any) -> Axes:
    axes = call.axes(0)
    dim %= len(axes.shape)
    frames = []
    for frame in axes.frames:
        after = cut(frame) if frame.shape[dim] > 1 else frame
        call.algebra.select(frame, after)
        frames.append(after)
    shape = (*axes.shape[:dim], output.shape[dim], *axes.shape[dim + 1 :])
    alike = tuple(same or size == 1 for same, size in zip(axes.alike, shape, strict=True))
    return replace(axes, shape=shape, alike=alike).with_frames(frames)


def _select(call: Call) -> Axes:
    axes, dim, index = call.axes(0), call.args[1] % len(call.axes(0).shape), call.args[2]
    return _take(call, axes, dim, index)


def _take(call: Call, axes: Axes, dim: int, index: int) -> Axes:
    frames = []
    for frame in axes.frames:
        after = frame.select(dim, index).unsqueeze(dim) if frame.shape[dim] > 1 else frame
        call.algebra.select(frame, after)
        frames.append(after)
    kept = replace(axes, alike=tuple(same or d == dim for d, same in enumerate(axes.alike)))
    kept = replace(kept, frames=tuple(frames)).drop([dim])
    return kept.with_frames(kept.frames)


def _unbind(call: Call) -> list[Axes]:
    axes = call.axes(0)
    dim = (call.args[1] if len(call.args) > 1 else 0) % len(axes.shape)
    return [_take(call, axes, dim, index) for index in range(axes.shape[dim])]


def _split(call: Call) -> list[Axes]:
    dim = call.args[2] if len(call.args) > 2 else 0
    sizes = [output.shape[dim] for output in call.output]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        _cut_along(call, dim, output, lambda frame, start=start, size=size: frame.narrow(dim, start, size))
        for output, start, size in zip(call.output, starts, sizes, strict=True)
    ]


def _gated(call: Call) -> Axes:
    """The first half, times a function of the second."""
    dim = call.args[1] if len(call.args) > 1 else -1
    size = call.output.shape[dim]
    halves = [
        _cut_along(call, dim, call.output, lambda frame, start=start: frame.narrow(dim, start, size))
        for start in (0, size)
    ]
    return call.algebra.elementwise(halves, usage="scale")


def _cat(call: Call) -> Axes:
    parts = [call.lookup(tensor) for tensor in call.args[0] if tensor.numel() or tensor.ndim > 1]
    dim = (call.args[1] if len(call.args) > 1 else 0) % len(parts[0].shape)
    return _join_along(call, parts, dim)


def _stack(call: Call) -> Axes:
    dim = call.args[1] if len(call.args) > 1 else 0
    parts = [call.lookup(tensor) for tensor in call.args[0]]
    dim %= len(parts[0].shape) + 1
    parts = [axes.unsqueeze(dim) for axes in parts]
    first = parts[0].frames
    if all(len(axes.frames) == len(first) and all(map(torch.equal, axes.frames, first)) for axes in parts[1:]):
        return _combine(call, parts, dim, list(first))
    single = all(len(axes.frames) == 1 for axes in parts)
    if single and len({axes.frames[0].shape for axes in parts}) == 1:
        return _combine(call, parts, dim, [torch.cat(_distinct([axes.frames[0] for axes in parts]), dim)])
    return _join_along(call, parts, dim)


def _join_along(call: Call, parts: Sequence[Axes], dim: int) -> Axes:
    """Concatenate along a dimension. What lies along the others meets index by index."""
    if any(frame.shape[dim] > 1 for axes in parts for frame in axes.frames):
        labelled = [_label(call, axes, dim) for axes in parts]
        along = [next(frame for frame in axes.frames if _numbers(frame, dim, axes)) for axes in labelled]
        rest = [
            axes.with_frames([f for f in axes.frames if f is not own])
            for axes, own in zip(labelled, along, strict=True)
        ]
        sizes = [max(frame.shape[d] for frame in along) for d in range(len(parts[0].shape))]
        full = [frame.expand([frame.shape[d] if d == dim else size for d, size in enumerate(sizes)]) for frame in along]
        frames = [torch.cat(_distinct(full), dim)]
    else:
        rest, frames = list(parts), []
    # The numbers at one index of the other dimensions belong to one neuron, in all parts.
    thin = [replace(axes, shape=_with(axes.shape, dim, 1), alike=_with(axes.alike, dim, True)) for axes in rest]
    met = call.algebra.elementwise(thin, usage="token") if len(thin) > 1 else thin[0]
    return _combine(call, parts, dim, [*frames, *met.frames])


def _combine(call: Call, parts: Sequence[Axes], dim: int, frames: list[Tensor]) -> Axes:
    alike = tuple(all(axes.alike[d] for axes in parts) and d != dim for d in range(len(parts[0].shape)))
    alike = tuple(same or size == 1 for same, size in zip(alike, call.shape, strict=True))
    return replace(parts[0], shape=tuple(call.shape), alike=alike).with_frames(frames)


def _numbers(frame: Tensor, dim: int, axes: Axes) -> bool:
    return frame.shape[dim] == axes.shape[dim] and (frame.shape[dim] > 1 or frame is axes.frames[-1])


def _label(call: Call, axes: Axes, dim: int) -> Axes:
    """Number what has no neurons along a dimension: constants may change places, positions may not."""
    if any(frame.shape[dim] > 1 for frame in axes.frames):
        return axes
    base = call.algebra.elements.new(axes.shape[dim])
    frame = code(torch.arange(base.start, base.start + base.size)).reshape(
        [base.size if d == dim else 1 for d in range(len(axes.shape))]
    )
    if not axes.alike[dim]:
        call.algebra.fix(frame, "beside positions")
    return replace(axes, frames=(*axes.frames, frame))


def _distinct(frames: Sequence[Tensor]) -> list[Tensor]:
    """Frames to be put side by side; numbers of one neuron in several of them get places of their own."""
    codes = torch.cat([frame.flatten() for frame in frames])
    if len(codes.unique()) == len(codes):
        return list(frames)
    count = len(frames)
    return [code(element_of(frame), place_of(frame) * count + number) for number, frame in enumerate(frames)]


def _with(values: tuple[Any, ...], dim: int, value: Any) -> tuple[Any, ...]:
    return (*values[:dim], value, *values[dim + 1 :])


def _repeat(call: Call) -> Axes:
    times = call.args[1]
    axes = call.axes(0).align(len(times))
    pairs = [size for pair in zip(times, axes.shape, strict=True) for size in pair]
    for dim in range(len(times)):
        axes = axes.unsqueeze(2 * dim)
    return call.algebra.reshape(axes.expand(pairs), call.shape)


def _turn(call: Call) -> Axes:
    """``flip`` and ``roll``: along dimensions without neurons nothing changes for these."""
    axes = call.axes(0)
    frames = [call.function(frame, *call.args[1:]) for frame in axes.frames]
    return axes.with_frames(frames)


def _pad(call: Call) -> Axes:
    axes, amounts = call.axes(0), call.args[1]
    ndim = len(axes.shape)
    frames = list(axes.frames)
    for number in range(len(amounts) // 2):
        dim, (before, after) = ndim - 1 - number, amounts[2 * number : 2 * number + 2]
        if before or after:
            frames = [_pad_frame(call, f, dim, before, after) if f.shape[dim] > 1 else f for f in frames]
    alike = tuple(
        (same and before == size) or size == 1
        for same, before, size in zip(axes.alike, axes.shape, call.shape, strict=True)
    )
    return replace(axes, shape=tuple(call.shape), alike=alike).with_frames(frames)


def _pad_frame(call: Call, frame: Tensor, dim: int, before: int, after: int) -> Tensor:
    """New neurons for what is put beside others; what is cut off tells the rest apart."""
    kept = frame.narrow(dim, max(-before, 0), frame.shape[dim] - max(-before, 0) - max(-after, 0))
    call.algebra.select(frame, kept)
    parts = []
    for amount in (max(before, 0), max(after, 0)):
        shape = _with(tuple(frame.shape), dim, amount)
        base = call.algebra.elements.new(math.prod(shape))
        parts.append(code(torch.arange(base.start, base.start + base.size)).reshape(shape))
    return torch.cat([parts[0], kept, parts[1]], dim)


def _view_as_real(call: Call) -> Axes:
    """Real and imaginary part stand along a new dimension, the last."""
    axes = call.axes(0)
    return replace(axes.unsqueeze(len(axes.shape)), shape=tuple(call.shape), alike=(*axes.alike, False))


def _view_as_complex(call: Call) -> Axes:
    axes = call.axes(0)
    last = len(axes.shape) - 1
    return call.algebra.pin(axes, [last], "real and imaginary part").drop([last])


def _as_strided(call: Call) -> Axes | list[Axes | None]:
    axes = call.axes(0)
    if tuple(call.shape) == axes.shape:
        return axes  # another layout of the same numbers
    call.algebra.pin_all(axes, "as_strided")
    return Axes.constant(call.shape)


def _shuffle(call: Call, split: Sequence[int], order: Sequence[int]) -> Axes:
    """Split dimensions, put them into another order, and merge them again."""
    return call.algebra.reshape(call.axes(0).reshape(split).permute(order), call.shape)


def _pixel_shuffle(call: Call) -> Axes:
    axes, r = call.axes(0), call.args[1]
    *lead, channels, height, width = axes.shape
    n = len(lead)
    return _shuffle(
        call,
        (*lead, channels // (r * r), r, r, height, width),
        (*range(n), n, n + 3, n + 1, n + 4, n + 2),
    )


def _pixel_unshuffle(call: Call) -> Axes:
    axes, r = call.axes(0), call.args[1]
    *lead, channels, height, width = axes.shape
    n = len(lead)
    return _shuffle(
        call,
        (*lead, channels, height // r, r, width // r, r),
        (*range(n), n, n + 2, n + 4, n + 1, n + 3),
    )


def _channel_shuffle(call: Call) -> Axes:
    axes, groups = call.axes(0), call.args[1]
    batch, channels, *rest = axes.shape
    order = (0, 2, 1, *range(3, 3 + len(rest)))
    return _shuffle(call, (batch, groups, channels // groups, *rest), order)


_RESHAPES = ["view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten", "_reshape_alias"]

MOVEMENT: Mapping[str, Rule] = {
    **{f"aten.{name}": _reshape for name in _RESHAPES},
    "aten.expand": _expand,
    "aten.permute": _permute,
    "aten.transpose": _transpose,
    "aten.t": _transpose,
    "aten.slice": _cut,
    "aten.narrow": _cut,
    "aten.select": _select,
    "aten.unbind": _unbind,
    **{
        f"aten.{name}": _split
        for name in ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")
    },
    "aten.glu": _gated,
    "aten.cat": _cat,
    "aten.stack": _stack,
    "aten.repeat": _repeat,
    "aten.flip": _turn,
    "aten.roll": _turn,
    "aten.constant_pad_nd": _pad,
    "aten.view_as_real": _view_as_real,
    "aten.view_as_complex": _view_as_complex,
    "aten.as_strided": _as_strided,
    "aten.pixel_shuffle": _pixel_shuffle,
    "aten.pixel_unshuffle": _pixel_unshuffle,
    "aten.channel_shuffle": _channel_shuffle,
    "aten.native_channel_shuffle": _channel_shuffle,
}
