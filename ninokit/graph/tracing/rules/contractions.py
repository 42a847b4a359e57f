"""Matrix products and convolutions: numbers meet along a dimension, and are summed over it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.tracing.axes import Axes, code, element_of, spans
from ninokit.graph.tracing.call import Call, Rule
from ninokit.graph.tracing.elements import Base, SliceTie, Usage

__all__ = ["CONTRACTIONS"]


def _mm(call: Call) -> Axes:
    return _matrix_product(call, 0, 1)


def _addmm(call: Call) -> Axes:
    """``bias + first @ second``."""
    product = _matrix_product(call, 1, 2)
    return call.algebra.elementwise([product, call.axes(0)], "add", usage="shift").expand(call.shape)


def _addbmm(call: Call) -> Axes:
    """``bias + (first @ second).sum(0)``."""
    product = call.algebra.reduce(_matrix_product(call, 1, 2), [0])
    return call.algebra.elementwise([product, call.axes(0)], "add", usage="shift").expand(call.shape)


def _matrix_product(call: Call, left: int, right: int) -> Axes:
    """(…, m, k) @ (…, k, n), either of which may be a vector."""
    a, b = call.axes(left), call.axes(right)
    if a.is_position(len(a.shape) - 1) and b.owned and not a.owned:
        a = call.algebra.label(a, len(a.shape) - 1)
        call.annotate(call.args[left], a)
    if b.is_position(max(len(b.shape) - 2, 0)) and a.owned and not b.owned:
        b = call.algebra.label(b, max(len(b.shape) - 2, 0))
        call.annotate(call.args[right], b)
    row, column = len(a.shape) == 1, len(b.shape) == 1
    a = a.unsqueeze(0) if row else a
    b = b.unsqueeze(1) if column else b
    order = list(range(len(b.shape)))
    b = b.permute([*order[:-2], order[-1], order[-2]])
    product = _contract(call, a.unsqueeze(len(a.shape) - 1), b.unsqueeze(len(b.shape) - 2), "linear")
    ndim = len(product.shape)
    return product.drop([dim for dim, gone in ((ndim - 2, row), (ndim - 1, column)) if gone])


def _contract(call: Call, left: Axes, right: Axes, usage: Usage) -> Axes:
    """Meet index by index, and sum over the last dimension."""
    algebra = call.algebra
    last = max(len(left.shape), len(right.shape)) - 1
    left, right = left.align(last + 1), right.align(last + 1)
    weighted = left.owned != right.owned
    if weighted:
        weight = left if left.owned else right
        algebra.use(weight, usage)
        if _mark_contracted(call, weight, last):  # neurons of another layer, to which these are tied
            left, right = (replace(axes, data=True, parameters=frozenset()) for axes in (left, right))
            return algebra.reduce(algebra.elementwise([left, right], "tie"), [last])
        algebra.produce(weight.with_frames([frame for frame in weight.frames if frame.shape[last] == 1]))
    product = algebra.reduce(algebra.elementwise([left, right]), [last])
    return product if weighted or left.owned else _attend(call, product, left, right)


def _mark_contracted(call: Call, weight: Axes, dim: int) -> bool:
    """Mark what a weight reads; whether that is what another use of it writes."""
    frames = [frame for frame in weight.frames if frame.shape[dim] > 1]
    read = [base for frame in frames for base in call.algebra.elements.bases_of(element_of(frame))]
    written = any(base.born is not None and base.parameter is not None for base in read)
    for base in read:
        base.contracted = base.contracted or base.born is None
    return written


def _attend(call: Call, product: Axes, left: Axes, right: Axes) -> Axes:
    """A product of two tensors none of which is a weight: of queries and keys, or of what attends and values."""
    elements = call.algebra.elements
    for attending, values in ((left, right), (right, left)):
        if attending.attends and not values.attends:
            for frame in values.frames:
                elements.kinds.append((element_of(frame).unique(), EdgeKind.VALUE))
            return replace(product, attends=False)
    sides = [[element_of(frame).flatten() for frame in axes.frames] for axes in (left, right)]
    if not all(sides):
        return product
    queries, keys = (torch.cat(side).unique() for side in sides)
    return replace(product, paired=(queries, keys))


def _convolution(call: Call) -> Axes:
    """Channels meet as in a matrix product, slice by slice; positions are taps."""
    source, weight, bias = call.args[0], call.args[1], call.args[2]
    transposed, groups = bool(call.args[6]), int(call.args[8])
    x, w = call.lookup(source), call.lookup(weight)
    if w.owned:
        _mark_kernel(call, w)
    w = call.algebra.pin(w, range(2, len(w.shape)), "positions of a kernel")
    passing = _passing(call) if groups == 1 and not transposed else []
    x = call.algebra.pin(x, [d for d in range(2, len(x.shape)) if d not in passing], "positions under a kernel")
    if x.is_position(1) and w.owned and not x.owned:
        x = call.algebra.label(x, 1)
        call.annotate(source, x)
    w = w.drop(list(range(2, len(w.shape))))
    if groups == 1:
        product = _dense(call, x, w.permute([1, 0]) if transposed else w)
    else:
        product = _grouped(call, x.drop(list(range(2, len(x.shape)))), w, groups, transposed=transposed)
    axes = _at_positions(product, call.shape, passing)
    if bias is not None:
        shift = call.lookup(bias).reshape((bias.numel(), *[1] * (len(call.shape) - 2)))
        axes = call.algebra.elementwise([axes, shift], "add", usage="shift")
    return axes


def _passing(call: Call) -> list[int]:
    """Dimensions along which the kernel has one position, so that each number passes by itself."""
    sizes = call.args[1].shape[2:]
    strides, paddings = ([*values, *[values[-1]] * len(sizes)] for values in (call.args[3], call.args[4]))
    return [2 + n for n, size in enumerate(sizes) if (size, strides[n], paddings[n]) == (1, 1, 0)]


def _at_positions(product: Axes, shape: torch.Size, passing: Collection[int]) -> Axes:
    """(batch, out, …) with all positions; those that the product lacks have no neurons."""
    rest = len(shape) - len(product.shape)
    frames = tuple(frame.reshape([*frame.shape, *[1] * rest]) for frame in product.frames)
    alike = (*product.alike, *[False] * rest)
    made = Axes(tuple(shape), frames, tuple(same or size == 1 for same, size in zip(alike, shape, strict=True)))
    return made.differ([dim for dim in range(2, len(shape)) if dim not in passing]).from_tensors([product])


def _mark_kernel(call: Call, weight: Axes) -> None:
    for frame in weight.frames:
        if all(dim >= 2 for dim in spans(frame)):
            for base in call.algebra.elements.bases_of(element_of(frame)):
                base.kernel = True


def _dense(call: Call, x: Axes, w: Axes) -> Axes:
    """(batch, in, …), (out, in) → (batch, out, …)."""
    ndim = len(x.shape)
    x = x.permute([0, *range(2, ndim), 1]).unsqueeze(1)
    for _ in range(ndim - 2):
        w = w.unsqueeze(1)
    return _contract(call, x, w.unsqueeze(0), "convolution")


def _grouped(call: Call, x: Axes, w: Axes, groups: int, *, transposed: bool) -> Axes:
    """Each slice of the channels has a weight of its own: (batch, slice · in) → (batch, slice · out).

    A weight's first dimension numbers the channels of all slices on one side; the second those of one slice on the
    other side, which are other neurons for each slice.
    """
    algebra = call.algebra
    sides = _sides(call, w, groups)
    if sides is None:
        for axes in (x, w):
            algebra.pin_all(axes, "slices of a convolution")
        width = w.shape[1] * groups if transposed else w.shape[0]
        return Axes.constant((x.shape[0], width))
    algebra.use(w, "convolution")
    rows, columns = sides
    entering, leaving = (rows, columns) if transposed else (columns, rows)
    leaving.born = algebra.now if leaving.born is None else leaving.born
    entering.contracted = True
    into, out = (torch.arange(side.start, side.start + side.size) for side in (entering, leaving))
    algebra.elements.slice_ties.append(SliceTie(into.reshape(groups, -1), out.reshape(groups, -1)))
    weight = Axes((1, entering.size), (code(into)[None],), (True, False)).from_tensors([w])
    batch = algebra.reduce(algebra.elementwise([x, weight]), [1])
    if leaving.size == groups and algebra.elements.is_fixed(into):  # as the only channels of their slices
        algebra.fix(code(out), "channels in fixed slices")
    frames = [frame[:, None] for frame in batch.frames] + [code(out)[None]]
    made = Axes((x.shape[0], leaving.size), (), (batch.alike[0], False)).from_tensors([x, w])
    return made.with_frames(frames)


def _sides(call: Call, w: Axes, groups: int) -> tuple[Base, Base] | None:
    """What the two dimensions of a weight in slices number, if they number nothing else."""
    elements = call.algebra.elements
    rows = next((frame for frame in w.frames if spans(frame) == (0,)), None)
    if not w.owned or rows is None or any(len(spans(frame)) != 1 for frame in w.frames):
        return None
    (row, *others) = elements.bases_of(element_of(rows))
    if others or row.parameter is None or row.size != w.shape[0]:
        return None
    known = next((b for b in elements.bases if b.slices == groups and b.parameter == row.parameter), None)
    if known is not None:
        return row, known
    if w.shape[1] > 1:
        column = next((b for f in w.frames if spans(f) == (1,) for b in elements.bases_of(element_of(f))), None)
        if column is None or column.parameter != row.parameter or elements.is_bound(column):
            return None
        column.parameter = None  # what it numbered is numbered by another one now
    return row, elements.new(groups * w.shape[1], row.parameter, 1, slices=groups)


CONTRACTIONS: Mapping[str, Rule] = {
    **{f"aten.{name}": _mm for name in ("mm", "bmm", "matmul", "mv", "dot")},
    **{f"aten.{name}": _addmm for name in ("addmm", "baddbmm", "addmv", "_sparse_addmm")},
    "aten.addbmm": _addbmm,
    "aten.convolution": _convolution,
}
