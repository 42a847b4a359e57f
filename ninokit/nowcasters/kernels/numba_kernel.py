"""A tile of edges on a CPU in bfloat16: the products by oneDNN, and one compiled pass between one and the next.

In bfloat16 the products are so fast that the activations and additions in tensor operators take most of the time,
each reading and writing all hidden features.

Shape legend: group, dst, src = a tile's slices, and destinations and sources in each; F = features that an edge
enters with (context·taps); H = hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels import products
from ninokit.nowcasters.kernels.tensor_kernel import EdgeTile, TensorKernel, differences, sum_messages

__all__ = ["NumbaKernel"]

# Numbers of an edge of one tap, in the published context: so few take no product of their own.
_FEW_FEATURES = 5


class NumbaKernel:
    """Messages and predictions of a tile.

    Args:
        composition: the nowcaster's matrices; see `supports`.
        otherwise: what computes the messages of the first round, where no edge has hidden features.
    """

    def __init__(self, composition: Composition, otherwise: TensorKernel) -> None:
        self._composition = composition
        self._otherwise = otherwise

    @staticmethod
    def supports(composition: Composition) -> bool:
        """Whether the kernel is made for a nowcaster, and the processor for bfloat16.

        Args:
            composition: its matrices.

        Returns:
            True for products in bfloat16 by oneDNN, and float32 otherwise.
        """
        like, dtype = composition.like, composition.product_dtype
        return like.dtype == torch.float32 and dtype == torch.bfloat16 and products.has_one_dnn(like.device.type, dtype)

    def messages(self, index: int, tile: EdgeTile, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """See `TensorKernel.messages`."""
        if index == 0:
            return self._otherwise.messages(index, tile, at_dst, at_src)
        matrices = self._composition.round(index)
        hidden, total = self._hidden(tile, index)
        scale = self._product(hidden, matrices.scale.product_weight)
        scaled = torch.empty_like(total)
        programs.sum_scaled(_bits(scale), _rows(at_src), scaled.numpy())
        return sum_messages(matrices, tile.kind, total.view(at_dst.shape), scaled.view(at_dst.shape), at_dst, at_src)

    def changes(self, tile: EdgeTile, horizon: int) -> Tensor:
        """See `TensorKernel.changes`."""
        inner, outer = self._composition.inner, self._composition.readout(tile.taps, horizon)
        hidden, _ = self._hidden(tile, self._composition.num_rounds)
        rows = _bits(self._product(hidden, inner.product_weight).flatten(0, 1))
        changes = tile.features.new_empty(*tile.features.shape[:3], tile.taps)
        flat = changes.view(-1, tile.taps).numpy()
        programs.read_out(rows, inner.bias.numpy(), outer.weight.numpy(), outer.bias.numpy(), flat)
        return changes

    def _hidden(self, tile: EdgeTile, rounds: int) -> tuple[Tensor, Tensor]:
        """The edges' features after so many rounds, at least 1, and their sums over the sources.

        Returns:
            Shapes (group·dst, src, H), in bfloat16, and (group·dst, H).
        """
        hidden, total = self._first_hidden(tile)
        for index in range(1, rounds):
            hidden = self._product(hidden, self._composition.round(index).hidden.product_weight)
            programs.activate(_bits(hidden), *self._ends(tile, index), total.numpy())
        return hidden, total

    def _first_hidden(self, tile: EdgeTile) -> tuple[Tensor, Tensor]:
        """The edges' features after the first round and their sums, as in `_hidden`."""
        features, weight = tile.features, self._composition.round(0, tile.taps).hidden.weight
        total = features.new_empty(features.shape[:2].numel(), len(weight))
        if features.shape[-1] == _FEW_FEATURES:
            hidden = torch.empty(len(total), features.shape[2], len(weight), dtype=torch.bfloat16)
            states, columns = features.flatten(0, 1).numpy(), weight.T.contiguous().numpy()
            programs.enter(states, columns, *self._ends(tile, 0), _bits(hidden), total.numpy())
        else:
            features, weight = differences(features, weight, self._composition.context)
            hidden = self._product(features.flatten(0, 1).bfloat16(), weight.bfloat16())
            programs.activate(_bits(hidden), *self._ends(tile, 0), total.numpy())
        return hidden, total

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


def _bits(numbers: Tensor) -> Any:
    return numbers.view(torch.int16).numpy()
