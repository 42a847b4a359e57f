"""What is computed on edges in a forecast on a CPU, compiled by Numba; `blas_kernel` and `onednn_kernel` call it.

Neither Numba nor NumPy knows bfloat16: arrays of it hold its 16 bits as integers. All sums are float32. The loops over
features are written so that LLVM turns them into vector instructions, which `exp` and a raised error would prevent.

Shape legend: edges = some of a tile's, in the order of its destinations and then of their sources; dst, src =
destinations and sources of all its slices, in one axis; sources = of each slice, a number; F = features that an edge
enters with; H = hidden. All arrays are contiguous. Where no dtype is given, it is float32, or the bits of bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

__all__ = [
    "FEW_FEATURES",
    "SILU",
    "activate",
    "activate_bits",
    "add_messages",
    "add_messages_bits",
    "all_changes",
    "all_messages",
    "enter",
    "enter_bits",
    "read_out",
    "read_out_bits",
]

# Numbers of an edge of one tap, in the published context: so few take no product of their own.
FEW_FEATURES = 5

# Reciprocals and fused multiply-adds may round otherwise. Not free: the order of sums, on which the rounding in `_silu`
# rests.
_FLAGS = {"contract", "arcp", "afn", "nsz"}
_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": _FLAGS}

_compiled = numba.njit(**_OPTIONS)
_compiled_sum = numba.njit(**_OPTIONS | {"fastmath": _FLAGS | {"reassoc"}})

_ZERO = np.float32(0)
_HALF_BITS, _SIXTEEN = np.int32(2**15), np.int32(16)
_EXPONENT_BITS = np.int32(23)

# exp(-x) = 2^n 2^f: the exponent n and the rest f, from -1/2 to 1/2, for which a polynomial is right to 1e-4 or 2e-7.
# Arguments of what is compiled, not constants in it: those LLVM reads anew for every eight numbers of AVX2, which takes
# as long as all else.
_MINUS_LOG2E, _MIN_EXPONENT = -1.4426950408889634, -126.0
_TO_INTEGER = 1.5 * 2**23 + 127  # added to a number, leaves n + 127 in its last bits
_MAX_EXPONENT = _TO_INTEGER + 127  # the same of the largest n
_CUBIC = 0.99992807, 0.69326099, 0.24261112, 0.05517167
_QUINTIC = 1.00000007, 0.693146967, 0.240221197, 0.0555071328, 0.0096755415, 0.0013276472
SILU = np.array([1.0, _MINUS_LOG2E, _MIN_EXPONENT, _TO_INTEGER, _MAX_EXPONENT, *_CUBIC, *_QUINTIC], np.float32)


def _kept(function: Callable[..., Any]) -> Any:
    """A function that Numba compiles, which takes seconds, once for all processes, and keeps beside this file.

    Or in the user's cache (see NUMBA_CACHE_DIR); where nothing can be written, every process compiles anew. Only for
    functions that are called with arguments of one type each: two processes that compile a function for different ones
    at the same moment would take each other's places in the cache.
    """
    try:
        return numba.njit(function, cache=True, **_OPTIONS)
    except RuntimeError:
        return numba.njit(function, **_OPTIONS)


@_kept
def all_changes(features, weights, from_dst, from_src, sources, readout, silu, block, changes):
    """The predicted scaled changes on a tile's edges, a few edges at a time.

    Args:
        features: shape (edges, F), float32.
        weights: see `_hidden`, of all rounds; the product is the readout's first layer.
        from_dst: see `_hidden`.
        from_src: see `_hidden`.
        sources: of each slice.
        readout: see `read_out`: the first layer's bias, the last one's weight and bias.
        silu: `SILU`.
        block: edges at a time.
        changes: shape (edges, taps), float32, written.
    """
    inner_bias, outer, outer_bias = readout
    rooms = np.empty((2, block, from_dst.shape[2]), np.float32)
    for first in range(0, len(features), block):
        _, inner = _hidden(features, weights, from_dst, from_src, sources, silu, first, rooms)
        read_out(inner, inner_bias, outer, outer_bias, silu, changes[first : first + len(inner)])


@_kept
def all_messages(features, weights, from_dst, from_src, at_src, sources, silu, block, total, scaled):
    """The two sums over the sources that a tile's messages need every edge for, a few edges at a time.

    Args:
        features: shape (edges, F), float32.
        weights: see `_hidden`, of the rounds before; the product is the messages' scale.
        from_dst: see `_hidden`.
        from_src: see `_hidden`.
        at_src: see `add_messages`.
        sources: of each slice.
        silu: `SILU`.
        block: edges at a time.
        total: see `add_messages`.
        scaled: see `add_messages`.
    """
    rooms = np.empty((2, block, from_dst.shape[2]), np.float32)
    for first in range(0, len(features), block):
        hidden, scale = _hidden(features, weights, from_dst, from_src, sources, silu, first, rooms)
        add_messages(hidden, scale, at_src, sources, first, total, scaled)


@_compiled
def _hidden(features, weights, from_dst, from_src, sources, silu, first, rooms):
    """The edges' features after all rounds, and their product, from some edge on.

    Args:
        features: shape (all edges, F), float32.
        weights: of the first round, shape (F, H); of those after it, shape (rounds - 1, H, H); of the product, shape
            (H, H).
        from_dst: what destinations add in each round, shape (rounds, dst, H), float32.
        from_src: what sources add, shape (rounds, src, H), float32.
        sources: of each slice.
        silu: `SILU`.
        first: the first edge.
        rooms: for what is read and what is written of as many edges as are computed at a time, shape (2, block, H),
            float32.

    Returns:
        Both, of shape (edges, H), in the rooms.
    """
    entering = features[first : first + rooms.shape[1]]
    hidden, other = rooms[0][: len(entering)], rooms[1][: len(entering)]
    if entering.shape[1] == FEW_FEATURES:
        enter(entering, weights[0], from_dst[0], from_src[0], sources, first, silu, hidden)
    else:
        np.dot(entering, weights[0], hidden)
        activate(hidden, from_dst[0], from_src[0], sources, first, silu)
    for index in range(1, len(from_dst)):
        np.dot(hidden, weights[1][index - 1], other)
        activate(other, from_dst[index], from_src[index], sources, first, silu)
        hidden, other = other, hidden
    np.dot(hidden, weights[2], other)
    return hidden, other


@_compiled
def enter(features, weight, from_dst, from_src, sources, first, silu, hidden):
    """Hidden features after the first round, from five numbers an edge.

    Args:
        features: shape (edges, 5), float32.
        weight: shape (5, H), float32.
        from_dst: what destinations add before the activation, shape (dst, H), float32.
        from_src: what sources add, shape (src, H), float32.
        sources: of each slice.
        first: the first edge among all of the tile.
        silu: `SILU`.
        hidden: shape (edges, H), written.
    """
    constants, row = _registers(silu), 0
    entering = np.empty(hidden.shape[1], np.float32)  # two loops, each of which the registers hold all of
    while row < len(hidden):
        dst, source, count = _next(first + row, len(hidden) - row, sources, from_dst, from_src)
        for j in range(count):
            x0, x1, x2 = features[row + j, 0], features[row + j, 1], features[row + j, 2]
            x3, x4 = features[row + j, 3], features[row + j, 4]
            for k in range(len(entering)):
                product = (
                    x0 * weight[0, k] + x1 * weight[1, k] + x2 * weight[2, k] + x3 * weight[3, k] + x4 * weight[4, k]
                )
                entering[k] = product + (from_dst[dst, k] + from_src[source + j, k])
            for k in range(len(entering)):
                hidden[row + j, k] = _written(_silu(entering[k], hidden, constants), hidden)
        row += count


@_compiled
def activate(hidden, from_dst, from_src, sources, first, silu):
    """Hidden features after a later round, in place of the products that enter it.

    Args:
        hidden: shape (edges, H), read and written.
        from_dst: what destinations add before the activation, shape (dst, H), float32.
        from_src: what sources add, shape (src, H), float32.
        sources: of each slice.
        first: the first edge among all of the tile.
        silu: `SILU`.
    """
    constants, row = _registers(silu), 0
    while row < len(hidden):
        dst, source, count = _next(first + row, len(hidden) - row, sources, from_dst, from_src)
        for j in range(count):
            for k in range(hidden.shape[1]):
                entering = _read(hidden[row + j, k]) + (from_dst[dst, k] + from_src[source + j, k])
                hidden[row + j, k] = _written(_silu(entering, hidden, constants), hidden)
        row += count


@_compiled
def add_messages(hidden, scale, at_src, sources, first, total, scaled):
    """Add edges to the sums over their sources of what messages are made of.

    Args:
        hidden: the edges' features, shape (edges, H).
        scale: the products that scale the messages, shape (edges, H).
        at_src: what they scale, shape (src, H), float32.
        sources: of each slice.
        first: the first edge among all of the tile.
        total: the sum of the features, shape (dst, H), float32, added to.
        scaled: the sum of scale ∘ at_src, shape (dst, H), float32, added to.
    """
    row = 0
    while row < len(hidden):
        dst, source, count = _next(first + row, len(hidden) - row, sources, total, at_src)
        for j in range(count):
            for k in range(hidden.shape[1]):
                total[dst, k] += _read(hidden[row + j, k])
                scaled[dst, k] += _read(scale[row + j, k]) * at_src[source + j, k]
        row += count


@_compiled
def read_out(inner, inner_bias, outer, outer_bias, silu, changes):
    """The readout's activation and last layer.

    Args:
        inner: its first layer's products, shape (edges, H).
        inner_bias: shape (H,), float32.
        outer: shape (taps, H), float32.
        outer_bias: shape (taps,), float32.
        silu: `SILU`.
        changes: shape (edges, taps), float32, written.
    """
    constants, row = _registers(silu), np.empty(inner.shape[1], np.float32)
    for edge in range(len(inner)):
        for k in range(len(row)):
            row[k] = _silu(_read(inner[edge, k]) + inner_bias[k], inner, constants)
        for tap in range(len(outer)):
            changes[edge, tap] = _dot(row, outer[tap]) + outer_bias[tap]


@_compiled
def _next(edge, edges, sources, at_dst, at_src):
    """The next edges of one destination: the destination, their first source, and how many they are."""
    dst = edge // sources
    before = edge - dst * sources
    slices = len(at_src) // sources
    return dst, dst // (len(at_dst) // slices) * sources + before, min(edges, sources - before)


@_compiled_sum
def _dot(left, right):
    result = _ZERO
    for k in range(len(left)):
        result += left[k] * right[k]
    return result


@_compiled
def _registers(silu):
    """What `_silu` takes of `SILU`."""
    one, minus_log2e, min_exponent, to_integer = silu[0], silu[1], silu[2], silu[3]
    max_exponent = silu.view(np.int32)[4]
    return (
        one,
        minus_log2e,
        min_exponent,
        to_integer,
        max_exponent,
        _four(silu, 5),
        (_four(silu, 9), silu[13], silu[14]),
    )


@_compiled
def _four(numbers, start):
    return numbers[start], numbers[start + 1], numbers[start + 2], numbers[start + 3]


@_compiled
def _silu(x, like, constants):
    """X / (1 + exp(-x)), to a few parts in ten million; in bfloat16 in ten thousand, a tenth of what that rounds."""
    one, minus_log2e, min_exponent, to_integer, max_exponent, cubic, quintic = constants
    power = x * minus_log2e
    power = power if power > min_exponent else min_exponent
    shifted = power + to_integer
    rest = power - (shifted - to_integer)
    # As an integer this takes one instruction less. What `rest` is of larger powers makes no difference.
    exponent = min(np.float32(shifted).view(np.int32), max_exponent)
    scale = np.int32(exponent << _EXPONENT_BITS).view(np.float32)
    return x / (one + _exp2(rest, like, cubic, quintic) * scale)


def _exp2(rest, like, cubic, quintic):  # 2^rest, as exactly as an array's dtype holds it
    raise NotImplementedError  # Numba compiles what follows instead


@overload(_exp2, jit_options=_OPTIONS)
def _exp2_overload(rest, like, cubic, quintic):
    if like.dtype == types.int16:
        return lambda rest, like, cubic, quintic: _cubic(rest, cubic)
    return lambda rest, like, cubic, quintic: _quintic(rest, quintic)


@_compiled
def _cubic(x, coefficients):
    c0, c1, c2, c3 = coefficients
    return ((c3 * x + c2) * x + c1) * x + c0


@_compiled
def _quintic(x, coefficients):
    lower, c4, c5 = coefficients
    c0, c1, c2, c3 = lower
    return ((((c5 * x + c4) * x + c3) * x + c2) * x + c1) * x + c0


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


# The same for hidden features in bfloat16, kept.
enter_bits, activate_bits, add_messages_bits, read_out_bits = (
    _kept(program.py_func) for program in (enter, activate, add_messages, read_out)
)
