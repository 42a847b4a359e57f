"""What is computed on edges between the products of a forecast, compiled by Numba; `numba_kernel` calls it.

Neither Numba nor NumPy knows bfloat16: arrays of it hold its 16 bits as integers. All sums are float32. The loops over
features are written so that LLVM turns them into vector instructions, which `exp` and a raised error would prevent.

Shape legend: as there; dst = destinations of all slices, src = sources of each slice, in one axis. All arrays are
contiguous. Where no dtype is given, it is float32, or the bits of bfloat16.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

__all__ = ["activate", "enter", "read_out", "sum_scaled"]

# Reciprocals and fused multiply-adds may round otherwise. Not free: the order of sums, on which the rounding in `_silu`
# rests.
_FLAGS = {"contract", "arcp", "afn", "nsz"}
_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": _FLAGS}
_compiled = numba.njit(**_OPTIONS)
_compiled_sum = numba.njit(**_OPTIONS | {"fastmath": _FLAGS | {"reassoc"}})

_ZERO, _ONE = np.float32(0), np.float32(1)
_HALF_BITS, _SIXTEEN = np.int32(2**15), np.int32(16)

# exp(-x) = 2^n 2^f: the exponent n and the rest f, from -1/2 to 1/2, for which a polynomial is right to 1e-4 or 2e-7.
_MINUS_LOG2E = np.float32(-1.4426950408889634)
_MIN_EXPONENT = np.float32(-126)
_TO_INTEGER = np.float32(1.5 * 2**23 + 127)  # added to a number, leaves n + 127 in its last bits
_MAX_EXPONENT = np.int32(_TO_INTEGER.view(np.int32) + 127)
_EXPONENT_BITS = np.int32(23)
_C0, _C1, _C2, _C3 = (np.float32(c) for c in (0.99992807, 0.69326099, 0.24261112, 0.05517167))
_D0, _D1, _D2, _D3, _D4, _D5 = (
    np.float32(d) for d in (1.00000007, 0.693146967, 0.240221197, 0.0555071328, 0.0096755415, 0.0013276472)
)


@_compiled
def enter(features, weight, from_dst, from_src, first, hidden, total):
    """Hidden features after the first round, from five numbers an edge.

    Args:
        features: shape (dst, src, 5), float32.
        weight: shape (5, H), float32.
        from_dst: what all destinations add before the activation, shape (all dst, H), float32.
        from_src: what sources add, shape (slices · src, H), float32.
        first: the first of the destinations that are computed, among all.
        hidden: shape (dst, src, H), written.
        total: their sum, shape (all dst, H), float32, written.
    """
    num_dst, num_src, num_hidden = hidden.shape
    per_slice = len(from_dst) * num_src // len(from_src)
    for i in range(num_dst):
        dst = first + i
        total[dst] = _ZERO
        for j in range(num_src):
            source = dst // per_slice * num_src + j
            x0, x1, x2 = features[i, j, 0], features[i, j, 1], features[i, j, 2]
            x3, x4 = features[i, j, 3], features[i, j, 4]
            for k in range(num_hidden):
                entering = (
                    x0 * weight[0, k] + x1 * weight[1, k] + x2 * weight[2, k] + x3 * weight[3, k] + x4 * weight[4, k]
                )
                value = _silu(entering + (from_dst[dst, k] + from_src[source, k]), hidden)
                total[dst, k] += value
                hidden[i, j, k] = _written(value, hidden)


@_compiled
def activate(hidden, from_dst, from_src, first, total):
    """Hidden features after a later round, in place of the products that enter it.

    Args:
        hidden: shape (dst, src, H), read and written.
        from_dst: what all destinations add before the activation, shape (all dst, H), float32.
        from_src: what sources add, shape (slices · src, H), float32.
        first: the first of the destinations that are computed, among all.
        total: their sum, shape (all dst, H), float32, written.
    """
    num_dst, num_src, num_hidden = hidden.shape
    per_slice = len(from_dst) * num_src // len(from_src)
    for i in range(num_dst):
        dst = first + i
        total[dst] = _ZERO
        for j in range(num_src):
            source = dst // per_slice * num_src + j
            for k in range(num_hidden):
                value = _silu(_read(hidden[i, j, k]) + (from_dst[dst, k] + from_src[source, k]), hidden)
                total[dst, k] += value
                hidden[i, j, k] = _written(value, hidden)


@_compiled
def sum_scaled(scale, at_src, first, scaled):
    """The sum of scale ∘ at_src over the sources.

    Args:
        scale: shape (dst, src, H).
        at_src: shape (slices · src, H), float32.
        first: the first of the destinations that are computed, among all.
        scaled: shape (all dst, H), float32, written.
    """
    num_dst, num_src, num_hidden = scale.shape
    per_slice = len(scaled) * num_src // len(at_src)
    for i in range(num_dst):
        dst = first + i
        scaled[dst] = _ZERO
        for j in range(num_src):
            source = dst // per_slice * num_src + j
            for k in range(num_hidden):
                scaled[dst, k] += _read(scale[i, j, k]) * at_src[source, k]


@_compiled
def read_out(inner, inner_bias, outer, outer_bias, changes):
    """The readout's activation and last layer.

    Args:
        inner: its first layer's products, shape (edges, H).
        inner_bias: shape (H,), float32.
        outer: shape (taps, H), float32.
        outer_bias: shape (taps,), float32.
        changes: shape (edges, taps), float32, written.
    """
    row = np.empty(inner.shape[1], np.float32)
    for edge in range(len(inner)):
        for k in range(len(row)):
            row[k] = _silu(_read(inner[edge, k]) + inner_bias[k], inner)
        for tap in range(len(outer)):
            changes[edge, tap] = _dot(row, outer[tap]) + outer_bias[tap]


@_compiled_sum
def _dot(left, right):
    result = _ZERO
    for k in range(len(left)):
        result += left[k] * right[k]
    return result


@_compiled
def _silu(x, like):
    """X / (1 + exp(-x)), to a few parts in ten million; in bfloat16 in ten thousand, a tenth of what that rounds."""
    power = x * _MINUS_LOG2E
    power = power if power > _MIN_EXPONENT else _MIN_EXPONENT
    shifted = power + _TO_INTEGER
    rest = power - (shifted - _TO_INTEGER)
    # As an integer this takes one instruction less. What `rest` is of larger powers makes no difference.
    exponent = min(np.float32(shifted).view(np.int32), _MAX_EXPONENT)
    scale = np.int32(exponent << _EXPONENT_BITS).view(np.float32)
    return x / (_ONE + _exp2(rest, like) * scale)


def _exp2(rest, like):  # 2^rest, as exactly as an array's dtype holds it
    raise NotImplementedError  # Numba compiles what follows instead


@overload(_exp2, jit_options=_OPTIONS)
def _exp2_overload(rest, like):
    if like.dtype == types.int16:
        return lambda rest, like: ((_C3 * rest + _C2) * rest + _C1) * rest + _C0
    return lambda rest, like: ((((_D5 * rest + _D4) * rest + _D3) * rest + _D2) * rest + _D1) * rest + _D0


def _read(number):  # float32 of what an array holds
    raise NotImplementedError


@overload(_read, jit_options=_OPTIONS)
def _read_overload(number):
    if number == types.int16:
        return lambda number: np.int32(np.int32(number) << _SIXTEEN).view(np.float32)
    return lambda number: number


def _written(number, like):  # what an array holds of float32; bfloat16 rounds halves away from zero
    raise NotImplementedError


@overload(_written, jit_options=_OPTIONS)
def _written_overload(number, like):
    if like.dtype == types.int16:
        return lambda number, like: np.int16(np.int32(np.float32(number).view(np.int32) + _HALF_BITS) >> _SIXTEEN)
    return lambda number, like: number
