"""What one program computes on a GPU, in Triton's language; `triton_kernel` launches them.

Shape legend: as there; rows = edges of a block. All tensors are contiguous.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["predict_edges", "sum_sources"]

# Compiled once for all sizes of tiles.
_SIZES = ["num_features", "taps", "groups", "num_dst", "num_src", "dst_groups", "src_groups"]


@triton.jit(do_not_specialize=[size for size in _SIZES if size != "taps"])
def sum_sources(
    states,  # shape (group, dst, src, F)
    first,  # shape (F, H)
    weights,  # shape (rounds, H, H): of the later rounds, then of the messages' scale
    from_dst,  # shape (rounds, group or 1, dst, H): what destinations add to the hidden features
    from_src,  # shape (rounds + 1, group or 1, src, H): what sources add to these, then their part of the messages
    sums,  # shape (2, parts, group, dst, H), written: sums of hidden features, and of their scale ∘ message
    num_features,
    groups,
    num_dst,
    num_src,
    dst_groups,  # group or 1
    src_groups,
    ROUNDS: tl.constexpr,
    SOURCES: tl.constexpr,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One destination's sums over a part of its sources."""
    column = tl.arange(0, H)
    dst = tl.program_id(0).to(tl.int64)  # counted through all slices
    part = tl.program_id(1).to(tl.int64)
    group = dst // num_dst
    dst_node = (group % dst_groups) * num_dst + dst % num_dst
    total = tl.full((H,), 0.0, tl.float32)
    scaled = tl.full((H,), 0.0, tl.float32)
    for start in range(part * SOURCES, tl.minimum((part + 1) * SOURCES, num_src), ROWS):
        source = start + tl.arange(0, ROWS)
        src = tl.minimum(source, num_src - 1)  # rows past the end repeat the last source, and count as zero
        src_node = (group % src_groups) * num_src + src
        num_src_nodes = src_groups.to(tl.int64) * num_src
        at_src = from_src + src_node[:, None] * H + column[None, :]
        hidden = _hidden(
            states, dst * num_src + src, num_features, first, weights,
            from_dst + dst_node * H + column[None, :], dst_groups.to(tl.int64) * num_dst, at_src, num_src_nodes,
            ROUNDS, H, ROWS, PRECISION,
        )  # fmt: skip
        hidden = tl.where((source < num_src)[:, None], hidden, 0.0)
        scale = _product(hidden, weights + (ROUNDS - 1) * H * H, H, ROWS, PRECISION)
        total += tl.sum(hidden, 0)
        scaled += tl.sum(scale * tl.load(at_src + ROUNDS * num_src_nodes * H), 0)
    num_sums = groups.to(tl.int64) * num_dst
    target = sums + (part * num_sums + dst) * H + column
    tl.store(target, total)
    tl.store(target + tl.num_programs(1) * num_sums * H, scaled)


@triton.jit(do_not_specialize=_SIZES)
def predict_edges(
    states,  # shape (group, dst, src, F)
    first,  # shape (F, H)
    weights,  # shape (rounds, H, H): of the later rounds, then of the readout's inner layer
    from_dst,  # shape (rounds, group or 1, dst, H): what destinations add to the hidden features
    from_src,  # shape (rounds, group or 1, src, H): what sources add to them
    inner_bias,  # shape (H,)
    outer,  # shape (taps, H)
    outer_bias,  # shape (taps,)
    changes,  # shape (group, dst, src, taps), written
    num_features,
    taps,
    groups,
    num_dst,
    num_src,
    dst_groups,  # group or 1
    src_groups,
    ROUNDS: tl.constexpr,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The changes on a block of edges."""
    column = tl.arange(0, H)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    num_edges = groups.to(tl.int64) * num_dst * num_src
    edge = tl.minimum(row, num_edges - 1)  # rows past the end repeat the last edge
    dst = edge // num_src  # counted through all slices
    group = dst // num_dst
    dst_node = (group % dst_groups) * num_dst + dst % num_dst
    src_node = (group % src_groups) * num_src + edge % num_src
    hidden = _hidden(
        states, edge, num_features, first, weights,
        from_dst + dst_node[:, None] * H + column[None, :], dst_groups.to(tl.int64) * num_dst,
        from_src + src_node[:, None] * H + column[None, :], src_groups.to(tl.int64) * num_src,
        ROUNDS, H, ROWS, PRECISION,
    )  # fmt: skip
    inner = _product(hidden, weights + (ROUNDS - 1) * H * H, H, ROWS, PRECISION)
    hidden = _silu(inner + tl.load(inner_bias + column)[None, :])
    for tap in range(taps):
        change = tl.sum(hidden * tl.load(outer + tap * H + column)[None, :], 1) + tl.load(outer_bias + tap)
        tl.store(changes + edge * taps + tap, change)


@triton.jit
def _hidden(
    states,
    edge,  # shape (rows,)
    num_features,
    first,
    weights,
    at_dst,  # pointers to what the destinations add in the first round, shape (rows or 1, H)
    num_dst_nodes,  # of a round
    at_src,  # pointers to what the sources add in the first round, shape (rows, H)
    num_src_nodes,
    ROUNDS: tl.constexpr,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The edges' features after all rounds, shape (rows, H)."""
    column = tl.arange(0, H)
    features = tl.full((ROWS, H), 0.0, tl.float32)
    # Few numbers an edge, in float32 whatever the precision: a step is a small difference of large states.
    for number in range(num_features):
        state = tl.load(states + edge * num_features + number)
        features += state[:, None] * tl.load(first + number * H + column)[None, :]
    for index in tl.static_range(ROUNDS):
        if index > 0:
            features = _product(features, weights + (index - 1) * H * H, H, ROWS, PRECISION)
        features += tl.load(at_dst + index * num_dst_nodes * H)
        features += tl.load(at_src + index * num_src_nodes * H)
        features = _silu(features)
    return features


@triton.jit
def _product(rows, weight, H: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr):
    """A matrix of shape (out, in) times each row, in the matrix's dtype, summed in float32: (rows, H) → (rows, H).

    Some columns at a time: the operands of a whole product in float32 would take ten times a thread's registers. The
    loop is not unrolled, because then the compiler gathers all operands before it multiplies the first.
    """
    DEPTH: tl.constexpr = 32 if H > 32 else H
    out, depth = tl.arange(0, H), tl.arange(0, DEPTH)
    sums = tl.full((ROWS, H), 0.0, tl.float32)
    for start in range(0, H, DEPTH):
        columns = (start + depth)[None, :]
        matrix = tl.load(weight + out[:, None] * H + columns)
        part = tl.gather(rows, tl.broadcast_to(columns, (ROWS, DEPTH)), 1)
        sums = tl.dot(part.to(matrix.dtype), tl.trans(matrix), sums, input_precision=PRECISION)
    return sums


@triton.jit
def _silu(rows):
    return rows / (1.0 + tl.exp(-rows))
