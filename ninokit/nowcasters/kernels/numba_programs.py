"""What is computed on bfloat16 numbers between the products of a forecast, compiled by Numba; `numba_kernel` calls it.

Neither Numba nor NumPy knows bfloat16: arrays hold its 16 bits as integers, and the sums are float32. The loops over
features are written so that LLVM turns them into vector instructions, which `exp` and a raised error would prevent.

Shape legend: as there; dst = destinations of all slices, src = sources of each slice, in one axis. All arrays are
contiguous.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["activate", "enter", "read_out", "sum_scaled"]

# Reciprocals and fused multiply-adds may round otherwise. Not free: the order of sums, on which the rounding in `_silu`
# rests.
_FLAGS = {"contract", "arcp", "afn", "nsz"}
_compiled = numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS)
_compiled_sum = numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS | {"reassoc"})

_ZERO, _ONE = np.float32(0), np.float32(1)
_HALF_BITS, _SIXTEEN = np.int32(2**15), np.int32(16)

# exp(-x) = 2^n 2^f: the exponent n and the rest f, from -1/2 to 1/2, for which a polynomial is right to 1e-4.
_MINUS_LOG2E = np.float32(-1.4426950408889634)
_MIN_EXPONENT, _MAX_EXPONENT = np.float32(-126), np.float32(126)
_TO_INTEGER = np.float32(1.5 * 2**23 + 127)  # added to a number, leaves n + 127 in its last bits
_EXPONENT_BITS = np.int32(23)
_C0, _C1, _C2, _C3 = (np.float32(c) for c in (0.99992807, 0.69326099, 0.24261112, 0.05517167))


@_compiled
def enter(features, weight, from_dst, from_src, hidden, total):
    """Hidden features after the first round, from five numbers an edge.

    Args:
        features: shape (dst, src, 5), float32.
        weight: shape (5, H), float32.
        from_dst: what destinations add before the activation, shape (dst, H), float32.
        from_src: what sources add, shape (slices · src, H), float32.
        hidden: shape (dst, src, H), written.
        total: their sum, shape (dst, H), float32, written.
    """
    num_dst, num_src, num_hidden = hidden.shape
    per_slice = num_dst * num_src // len(from_src)
    for i in range(num_dst):
        total[i] = _ZERO
        for j in range(num_src):
            source = i // per_slice * num_src + j
            x0, x1, x2 = features[i, j, 0], features[i, j, 1], features[i, j, 2]
            x3, x4 = features[i, j, 3], features[i, j, 4]
            for k in range(num_hidden):
                value = _silu(
                    (from_dst[i, k] + from_src[source, k])
                    + x0 * weight[0, k]
                    + x1 * weight[1, k]
                    + x2 * weight[2, k]
                    + x3 * weight[3, k]
                    + x4 * weight[4, k]
                )
                total[i, k] += value
                hidden[i, j, k] = _rounded(value)


@_compiled
def activate(hidden, from_dst, from_src, total):
    """Hidden features after a later round, in place of the products that enter it.

    Args:
        hidden: shape (dst, src, H), read and written.
        from_dst: what destinations add before the activation, shape (dst, H), float32.
        from_src: what sources add, shape (slices · src, H), float32.
        total: their sum, shape (dst, H), float32, written.
    """
    num_dst, num_src, num_hidden = hidden.shape
    per_slice = num_dst * num_src // len(from_src)
    for i in range(num_dst):
        total[i] = _ZERO
        for j in range(num_src):
            source = i // per_slice * num_src + j
            for k in range(num_hidden):
                value = _silu(_widened(hidden[i, j, k]) + (from_dst[i, k] + from_src[source, k]))
                total[i, k] += value
                hidden[i, j, k] = _rounded(value)


@_compiled
def sum_scaled(scale, at_src, scaled):
    """The sum of scale ∘ at_src over the sources.

    Args:
        scale: shape (dst, src, H).
        at_src: shape (slices · src, H), float32.
        scaled: shape (dst, H), float32, written.
    """
    num_dst, num_src, num_hidden = scale.shape
    per_slice = num_dst * num_src // len(at_src)
    for i in range(num_dst):
        scaled[i] = _ZERO
        for j in range(num_src):
            source = i // per_slice * num_src + j
            for k in range(num_hidden):
                scaled[i, k] += _widened(scale[i, j, k]) * at_src[source, k]


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
            row[k] = _silu(_widened(inner[edge, k]) + inner_bias[k])
        for tap in range(len(outer)):
            changes[edge, tap] = _dot(row, outer[tap]) + outer_bias[tap]


@_compiled_sum
def _dot(left, right):
    result = _ZERO
    for k in range(len(left)):
        result += left[k] * right[k]
    return result


@_compiled
def _silu(x):
    """X / (1 + exp(-x)), to a few parts in ten thousand: a tenth of what bfloat16 rounds."""
    power = x * _MINUS_LOG2E
    power = power if power > _MIN_EXPONENT else _MIN_EXPONENT
    power = power if power < _MAX_EXPONENT else _MAX_EXPONENT
    shifted = power + _TO_INTEGER
    rest = power - (shifted - _TO_INTEGER)
    scale = np.int32(np.float32(shifted).view(np.int32) << _EXPONENT_BITS).view(np.float32)
    return x / (_ONE + (((_C3 * rest + _C2) * rest + _C1) * rest + _C0) * scale)


@_compiled
def _widened(bits):
    """Bfloat16 → float32."""
    return np.int32(np.int32(bits) << _SIXTEEN).view(np.float32)


@_compiled
def _rounded(number):
    """Float32 → bfloat16, halves away from zero."""
    return np.int16(np.int32(np.float32(number).view(np.int32) + _HALF_BITS) >> _SIXTEEN)
