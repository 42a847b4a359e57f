"""A tile of edges in tensor operators, on any device.

Shape legend: group, dst, src = a tile's slices, and destinations and sources in each; F = features that an edge
enters with (context·taps); H = hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ninokit.graph.kinds import EdgeKind
from ninokit.nowcasters.blocks import Block
from ninokit.nowcasters.composition import Composition, Round
from ninokit.nowcasters.kernels.products import linear, linear_silu

__all__ = ["MANY_SOURCES", "EdgeTile", "TensorKernel", "differences", "scaled_by_few", "sum_messages"]

MANY_SOURCES = 32  # from here on products a destination, with all its sources, beat those a row an edge


@dataclass(frozen=True)
class EdgeTile:
    """A tile's edges, and what their ends contribute.

    Args:
        kind: of the edges.
        taps: numbers an edge.
        features: scaled states, shape (group, dst, src, F).
        ends: for each finished round, what destinations and sources add to the edges' hidden features, of shapes
            (group, dst, H) and (group, src, H), where group may be 1.
    """

    kind: EdgeKind
    taps: int
    features: Tensor
    ends: Sequence[tuple[Tensor, Tensor]]


def sum_messages(
    matrices: Round, kind: EdgeKind, total: Tensor, scaled: Tensor, at_dst: Tensor, at_src: Tensor
) -> Tensor:
    """The messages of a tile's edges, summed over its sources, from the two sums that need every edge.

    With scale = P z + p and shift = R z + r from the edge features z, the message of an edge is
    scale ∘ (at_dst + at_src) + shift. Only the sum of (P z) ∘ at_src needs a product an edge.

    Args:
        matrices: of the round.
        kind: of the edges.
        total: the sum of z, shape (…, group, dst, F or H).
        scaled: the sum of (P z) ∘ at_src, shape (…, group, dst, H).
        at_dst: the destination's part of the messages, shape (…, group or 1, dst, H).
        at_src: the source's part, shape (…, group or 1, src, H).

    Returns:
        Shape (…, group, dst, H).
    """
    count = at_src.shape[-2]
    scale_bias, shift_bias = matrices.scale.bias_for(kind), matrices.shift.bias_for(kind)
    sums = total @ matrices.scale.weight.T + count * scale_bias
    sums *= at_dst
    sums += total @ matrices.shift.weight.T + count * shift_bias
    sums += scale_bias * at_src.sum(-2, keepdim=True)
    return sums + scaled


def differences(features: Tensor, weight: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Factors of the same product that can be rounded: a step is a small difference of large states.

    Args:
        features: scaled states, shape (group, dst, src, F).
        weight: shape (H, F).
        context: past states.

    Returns:
        Features and weight, of the same shapes.
    """
    states, columns = (factor.unflatten(-1, (context, -1)) for factor in (features, weight))
    last = states[..., -1:, :]
    return (
        torch.cat([states[..., :-1, :] - last, last], dim=-2).flatten(-2),
        torch.cat([columns[:, :-1], columns.sum(1, keepdim=True)], dim=1).flatten(1),
    )


def scaled_by_few(features: Tensor, weight: Tensor, at_src: Tensor) -> Tensor:
    """The sum of (weight z) ∘ at_src, without a product an edge: with few features z, sum z ⊗ at_src first.

    Args:
        features: shape (…, group, dst, src, F).
        weight: shape (H, F).
        at_src: shape (…, group or 1, src, H).

    Returns:
        Shape (…, group, dst, H).
    """
    *_, dst, _, count = features.shape
    by_feature = features.transpose(-1, -2).flatten(-3, -2) @ at_src  # shape (…, group, dst·F, H)
    return (by_feature.unflatten(-2, (dst, count)) * weight.T).sum(-2)


class TensorKernel:
    """Messages and predictions of a tile.

    Args:
        composition: the nowcaster's matrices.
    """

    def __init__(self, composition: Composition) -> None:
        self._composition = composition

    def tiles_at_once(self, block: Block) -> int:
        """How many of the device's usual tiles it takes together.

        Args:
            block: that they are of.

        Returns:
            At least 1.
        """
        # What is called once a tile weighs more, beside faster products, than what leaves the cache.
        on_cpu = self._composition.like.device.type == "cpu"
        return 4 if on_cpu and self._composition.product_dtype == torch.bfloat16 else 1

    def messages(self, index: int, tile: EdgeTile, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """The messages of a tile in a round, summed over its sources.

        Args:
            index: of the round.
            tile: its edges.
            at_dst: the destination's part of the messages, shape (group or 1, dst, H).
            at_src: the source's part, shape (group or 1, src, H).

        Returns:
            Shape (group, dst, H).
        """
        matrices = self._composition.round(index, tile.taps)
        features = self._hidden(tile, index)
        if index == 0 and at_src.shape[1] >= MANY_SOURCES:
            scaled = scaled_by_few(features, matrices.scale.weight, at_src)
        else:
            scale = self._product(features, matrices.scale.product_weight if index else matrices.scale.weight)
            scale *= at_src[:, None].to(scale.dtype)
            scaled = scale.sum(2).to(at_dst.dtype)
        return sum_messages(matrices, tile.kind, features.sum(2).to(at_dst.dtype), scaled, at_dst, at_src)

    def changes(self, tile: EdgeTile, horizon: int) -> Tensor:
        """The predicted scaled changes on a tile's edges.

        Args:
            tile: its edges, with the ends of all rounds.
            horizon: from 1.

        Returns:
            Shape (group, dst, src, taps).
        """
        inner, outer = self._composition.inner, self._composition.readout(tile.taps, horizon)
        features = self._hidden(tile, self._composition.num_rounds)
        rows = features.flatten(0, 2).to(self._composition.product_dtype)
        hidden = linear_silu(rows, inner.product_weight, inner.bias.to(rows.dtype))
        changes = linear(hidden, outer.product_weight).to(outer.bias.dtype)
        return (changes + outer.bias).view(*features.shape[:3], -1)

    def serially(self) -> AbstractContextManager[None]:
        """What tiles have to be computed in, so that what computes them uses no other threads than the caller's."""
        return nullcontext()

    def _hidden(self, tile: EdgeTile, rounds: int) -> Tensor:
        """The edges' features after so many rounds, shape (group, dst, src, F or H), perhaps in the products' dtype."""
        features = self._first_hidden(tile) if rounds else tile.features
        for index in range(1, rounds):
            hidden = self._composition.round(index).hidden
            at_dst, at_src = tile.ends[index]
            features = self._product(features, hidden.product_weight).to(at_dst.dtype)
            features += (at_dst + hidden.bias_for(tile.kind))[:, :, None]
            features += at_src[:, None]
            features = nn.functional.silu(features, inplace=True)
        return features

    def _first_hidden(self, tile: EdgeTile) -> Tensor:
        """The edges' features after the first round, which has few numbers an edge: what the ends add is what costs."""
        hidden = self._composition.round(0, tile.taps).hidden
        at_dst, at_src = tile.ends[0]
        at_dst = at_dst + hidden.bias_for(tile.kind)
        if len(tile.features) == 1 and at_src.shape[1] >= MANY_SOURCES:
            features = self._product_with_ends(tile.features, hidden.weight, at_dst, at_src)
        else:
            features = self._product(tile.features, hidden.weight)
            features += at_dst[:, :, None]
            features += at_src[:, None]
        return nn.functional.silu(features, inplace=True)

    def _product_with_ends(self, features: Tensor, weight: Tensor, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """Weight features + at_dst + at_src: one product a destination, where at_dst is the weight of a one.

        Args:
            features: shape (1, dst, src, F).
            weight: shape (H, F).
            at_dst: shape (1, dst, H).
            at_src: shape (1, src, H).

        Returns:
            Shape (1, dst, src, H), in the products' dtype.
        """
        dtype = self._composition.product_dtype
        if dtype != weight.dtype:
            features, weight = differences(features, weight, self._composition.context)
        factors = nn.functional.pad(features[0], (0, 1), value=1.0)
        weights = torch.cat([weight.T.expand(len(factors), -1, -1), at_dst[0, :, None]], dim=1)
        return torch.baddbmm(at_src.to(dtype), factors.to(dtype), weights.to(dtype))[None]

    def _product(self, features: Tensor, weight: Tensor) -> Tensor:
        """A product with a row an edge, in the weight's dtype: (group, dst, src, in) → (group, dst, src, out)."""
        return linear(features.flatten(0, 2).to(weight.dtype), weight).view(*features.shape[:3], -1)
