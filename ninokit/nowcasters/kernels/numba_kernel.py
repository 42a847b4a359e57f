"""A tile of edges on a CPU, compiled by Numba: what the two kernels, by precision of the products, have in common.

In tensor operators the activations and additions, each of which reads and writes all hidden features, take half as
long as the products in float32, and longer than them in bfloat16.

Shape legend: group, dst, src = a tile's slices, and destinations and sources in each; edges = group·dst·src of them, or
a few; F = features that an edge enters with (context·taps); H = hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ninokit.nowcasters.blocks import Block
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels.tensor_kernel import EdgeTile, TensorKernel, sum_messages

__all__ = ["Edges", "NumbaKernel", "Sums"]


@dataclass(frozen=True)
class Edges:
    """A tile as the compiled programs take it: slices and destinations in one axis, arrays of float32.

    Args:
        taps: numbers an edge.
        features: shape (edges, F).
        from_dst: what destinations, with the kind's bias, add in each finished round, shape (rounds, group·dst, H).
        from_src: what sources add, shape (rounds, group·src, H).
        sources: of each slice.
    """

    taps: int
    features: Tensor
    from_dst: Any
    from_src: Any
    sources: int


@dataclass(frozen=True)
class Sums:
    """The sums over the sources that a tile's messages need every edge for; see `sum_messages`.

    Args:
        at_src: the source's part of the messages, shape (group·src, H).
        total: the sum of the edges' features, shape (group·dst, H), added to.
        scaled: the sum of their products ∘ at_src, shape (group·dst, H), added to.
    """

    at_src: Any
    total: Any
    scaled: Any


class NumbaKernel(ABC):
    """Messages and predictions of a tile.

    Args:
        composition: the nowcaster's matrices.
        otherwise: what computes the messages of the first round, where no edge has hidden features.
    """

    _cached_bytes: int  # of hidden features at a time

    def __init__(self, composition: Composition, otherwise: TensorKernel) -> None:
        self._composition = composition
        self._otherwise = otherwise

    @staticmethod
    @abstractmethod
    def supports(composition: Composition) -> bool:
        """Whether the kernel is made for a nowcaster, and the processor for its products.

        Args:
            composition: its matrices.

        Returns:
            True for weights in float32 on a CPU, products in the kernel's dtype, and a library that computes them.
        """

    def messages(self, index: int, tile: EdgeTile, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """See `TensorKernel.messages`."""
        if index == 0:
            return self._otherwise.messages(index, tile, at_dst, at_src)
        groups = len(tile.features)
        total, scaled = (at_dst.new_zeros(groups, *at_dst.shape[1:]) for _ in range(2))
        sums = Sums(*(_rows(nodes, groups) for nodes in (at_src, total, scaled)))
        self._add_messages(index, self._edges(tile, index), sums)
        return sum_messages(self._composition.round(index), tile.kind, total, scaled, at_dst, at_src)

    def changes(self, tile: EdgeTile, horizon: int) -> Tensor:
        """See `TensorKernel.changes`."""
        changes = tile.features.new_empty(*tile.features.shape[:3], tile.taps)
        edges = self._edges(tile, self._composition.num_rounds)
        self._write_changes(edges, horizon, changes.flatten(0, 2).numpy())
        return changes

    def tiles_at_once(self, block: Block) -> int:
        """See `TensorKernel.tiles_at_once`."""
        return 8  # it cuts them itself, into what the cache holds

    def serially(self) -> AbstractContextManager[None]:
        """See `TensorKernel.serially`."""
        return self._otherwise.serially()

    def _edges_at_once(self) -> int:
        """Edges of which the hidden features stay in the cache."""
        edge = len(self._composition.inner.weight) * self._composition.product_dtype.itemsize
        return max(1, self._cached_bytes // edge)

    @abstractmethod
    def _add_messages(self, index: int, edges: Edges, sums: Sums) -> None:
        """Compute the sums of a round's messages."""

    @abstractmethod
    def _write_changes(self, edges: Edges, horizon: int, changes: Any) -> None:
        """Compute the predicted changes, shape (edges, taps), float32."""

    def _edges(self, tile: EdgeTile, rounds: int) -> Edges:
        rounds_hidden = [self._composition.round(index, tile.taps).hidden for index in range(rounds)]
        groups = len(tile.features)
        from_dst = [dst + hidden.bias_for(tile.kind) for hidden, (dst, _) in zip(rounds_hidden, tile.ends, strict=True)]
        return Edges(
            taps=tile.taps,
            features=tile.features.flatten(0, 2),
            from_dst=np.stack([_rows(nodes, groups) for nodes in from_dst]),
            from_src=np.stack([_rows(nodes, groups) for _, nodes in tile.ends]),
            sources=tile.features.shape[2],
        )


def _rows(nodes: Tensor, groups: int) -> Any:
    """Contiguous, in one axis: (group or 1, nodes, H) → (group·nodes, H)."""
    return nodes.expand(groups, -1, -1).contiguous().flatten(0, 1).numpy()
