"""A tile of edges in tensor operators, on any device.

Shape legend: group, dst, src = a tile's slices, and destinations and sources in each; F = features that an edge
enters with (context·taps); H = hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ninokit.graph.kinds import EdgeKind
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels.products import linear, linear_silu

__all__ = ["EdgeTile", "TensorKernel"]


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


class TensorKernel:
    """Messages and predictions of a tile.

    Args:
        composition: the nowcaster's matrices.
    """

    def __init__(self, composition: Composition) -> None:
        self._composition = composition

    def messages(self, index: int, tile: EdgeTile, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """The messages of a tile in a round, summed over its sources.

        With scale = P z + p and shift = R z + r from the edge features z, the message of an edge is
        scale ∘ (at_dst + at_src) + shift. Only the sum of (P z) ∘ at_src needs a product an edge.

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
        count, total = features.shape[2], features.sum(2)
        scale_bias, shift_bias = matrices.scale.bias_for(tile.kind), matrices.shift.bias_for(tile.kind)
        sums = total @ matrices.scale.weight.T + count * scale_bias
        sums *= at_dst
        sums += total @ matrices.shift.weight.T + count * shift_bias
        sums += scale_bias * at_src.sum(1, keepdim=True)
        scale = self._product(features, matrices.scale.product_weight if index else matrices.scale.weight)
        scale = scale.to(at_src.dtype)
        scale *= at_src[:, None]
        return sums + scale.sum(2)

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

    def _hidden(self, tile: EdgeTile, rounds: int) -> Tensor:
        """The edges' features after so many rounds, shape (group, dst, src, F or H)."""
        features = tile.features
        for index in range(rounds):
            hidden = self._composition.round(index, tile.taps).hidden
            at_dst, at_src = tile.ends[index]
            # The states' few numbers are not rounded: a step is a small difference of large numbers.
            features = self._product(features, hidden.product_weight if index else hidden.weight).to(at_dst.dtype)
            features += (at_dst + hidden.bias_for(tile.kind))[:, :, None]
            features += at_src[:, None]
            features = nn.functional.silu(features, inplace=True)
        return features

    def _product(self, features: Tensor, weight: Tensor) -> Tensor:
        """A product with a row an edge, in the weight's dtype: (group, dst, src, in) → (group, dst, src, out)."""
        return linear(features.flatten(0, 2).to(weight.dtype), weight).view(*features.shape[:3], -1)
