"""A tile of edges on a CPU: the products by oneDNN, and one compiled pass between one and the next.

In tensor operators the activations and additions, each of which reads and writes all hidden features, take half as
long as the products in float32, and longer than them in bfloat16.

Shape legend: group, dst, src = a tile's slices, and destinations and sources in each; F = features that an edge
enters with (context·taps); H = hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels import products
from ninokit.nowcasters.kernels.tensor_kernel import EdgeTile, TensorKernel, differences, sum_messages

__all__ = ["NumbaKernel"]

# Numbers of an edge of one tap, in the published context: so few take no product of their own.
_FEW_FEATURES = 5

# Of hidden features at a time: what one pass has written, the next should find in the cache.
_CACHED_BYTES = 2**20


class NumbaKernel:
    """Messages and predictions of a tile.

    Args:
        composition: the nowcaster's matrices; see `supports`.
        otherwise: what computes the messages of the first round, where no edge has hidden features.

    Attributes:
        tiles_at_once: as those of `TensorKernel`.
    """

    tiles_at_once = 8  # it cuts them itself, into what the cache holds

    def __init__(self, composition: Composition, otherwise: TensorKernel) -> None:
        self._composition = composition
        self._otherwise = otherwise

    @staticmethod
    def supports(composition: Composition) -> bool:
        """Whether the kernel is made for a nowcaster, and the processor for its products.

        Args:
            composition: its matrices.

        Returns:
            True for products in float32 or bfloat16 by oneDNN, and float32 otherwise.
        """
        like = composition.like
        return like.dtype == torch.float32 and products.has_one_dnn(like.device.type, composition.product_dtype)

    def messages(self, index: int, tile: EdgeTile, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """See `TensorKernel.messages`."""
        if index == 0:
            return self._otherwise.messages(index, tile, at_dst, at_src)
        matrices, sources = self._composition.round(index), _rows(at_src)
        total, scaled = (torch.empty(at_dst.shape[:2].numel(), at_dst.shape[2]) for _ in range(2))
        for first, hidden in self._hidden(tile, index, total.numpy()):
            scale = self._product(hidden, matrices.scale.product_weight)
            programs.sum_scaled(_array(scale), sources, first, scaled.numpy())
        return sum_messages(matrices, tile.kind, total.view(at_dst.shape), scaled.view(at_dst.shape), at_dst, at_src)

    def changes(self, tile: EdgeTile, horizon: int) -> Tensor:
        """See `TensorKernel.changes`."""
        inner, outer = self._composition.inner, self._composition.readout(tile.taps, horizon)
        layers = inner.bias.numpy(), outer.weight.numpy(), outer.bias.numpy()
        changes = tile.features.new_empty(*tile.features.shape[:3], tile.taps)
        by_dst = changes.flatten(0, 1)
        total = np.empty((len(by_dst), len(inner.bias)), np.float32)
        for first, hidden in self._hidden(tile, self._composition.num_rounds, total):
            rows = self._product(hidden, inner.product_weight).flatten(0, 1)
            programs.read_out(_array(rows), *layers, by_dst[first : first + len(hidden)].flatten(0, 1).numpy())
        return changes

    def _hidden(self, tile: EdgeTile, rounds: int, total: Any) -> Iterator[tuple[int, Tensor]]:
        """The edges' features after so many rounds, for a few destinations at a time.

        Args:
            tile: the edges.
            rounds: at least 1.
            total: what the features of the last round sum to over the sources, shape (group·dst, H), written.

        Yields:
            The first destination, of all slices in one axis, and features of shape (dst, src, H), in the products'
            dtype.
        """
        ends = [self._ends(tile, index) for index in range(rounds)]
        enter = self._entrance(tile)
        for first in range(0, len(total), self._step(tile)):
            hidden = enter(first, ends[0], total)
            for index in range(1, rounds):
                hidden = self._product(hidden, self._composition.round(index).hidden.product_weight)
                programs.activate(_array(hidden), *ends[index], first, total)
            yield first, hidden

    def _entrance(self, tile: EdgeTile) -> Callable[[int, tuple[Any, Any], Any], Tensor]:
        """What computes the features after the first round of the destinations from some on, as in `_hidden`."""
        features, weight = tile.features, self._composition.round(0, tile.taps).hidden.weight
        dtype, step = self._composition.product_dtype, self._step(tile)
        if few := features.shape[-1] == _FEW_FEATURES:
            columns = weight.T.contiguous().numpy()
        elif dtype != weight.dtype:
            features, weight = differences(features, weight, self._composition.context)
        features, weight = features.flatten(0, 1), weight.to(dtype)

        def enter(first: int, ends: tuple[Any, Any], total: Any) -> Tensor:
            rows = features[first : first + step]
            if few:
                hidden = torch.empty(*rows.shape[:2], len(weight), dtype=dtype)
                programs.enter(rows.numpy(), columns, *ends, first, _array(hidden), total)
            else:
                hidden = self._product(rows.to(dtype), weight)
                programs.activate(_array(hidden), *ends, first, total)
            return hidden

        return enter

    def _step(self, tile: EdgeTile) -> int:
        """Destinations of which the hidden features stay in the cache."""
        edge = len(self._composition.inner.weight) * self._composition.product_dtype.itemsize
        return max(1, _CACHED_BYTES // (edge * tile.features.shape[2]))

    def _ends(self, tile: EdgeTile, index: int) -> tuple[Any, Any]:
        """What destinations (with the kind's bias) and sources add in a round, shapes (group·dst or ·src, H)."""
        bias = self._composition.round(index, tile.taps).hidden.bias_for(tile.kind)
        from_dst, from_src = tile.ends[index]
        return _rows(from_dst + bias), _rows(from_src)

    def _product(self, rows: Tensor, weight: Tensor) -> Tensor:
        """A product with a row an edge: (group·dst, src, in) → (group·dst, src, out)."""
        return products.linear(rows.flatten(0, 1), weight).view(*rows.shape[:2], -1)


def _rows(nodes: Tensor) -> Any:
    """Contiguous, in one axis: (group, nodes, H) → (group·nodes, H)."""
    return nodes.contiguous().flatten(0, 1).numpy()


def _array(numbers: Tensor) -> Any:
    return (numbers.view(torch.int16) if numbers.dtype == torch.bfloat16 else numbers).numpy()
