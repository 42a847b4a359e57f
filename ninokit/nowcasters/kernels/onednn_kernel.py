"""A tile of edges on a CPU in bfloat16: the products by oneDNN, and one compiled pass between one and the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels.numba_kernel import Edges, NumbaKernel, Sums
from ninokit.nowcasters.kernels.products import has_one_dnn, linear
from ninokit.nowcasters.kernels.tensor_kernel import differences

__all__ = ["OneDnnKernel"]


class OneDnnKernel(NumbaKernel):
    """Messages and predictions of a tile, with products in bfloat16.

    Args:
        composition: see `NumbaKernel`.
        otherwise: see `NumbaKernel`.
    """

    _cached_bytes = 2**20  # what one pass has written, the next should find in the cache

    @staticmethod
    def supports(composition: Composition) -> bool:
        """See `NumbaKernel.supports`."""
        like, dtype = composition.like, composition.product_dtype
        return like.dtype == torch.float32 and dtype == torch.bfloat16 and has_one_dnn(like.device.type, dtype)

    def _add_messages(self, index: int, edges: Edges, sums: Sums) -> None:
        scale = self._composition.round(index).scale.product_weight
        for first, hidden in self._hidden(edges, index):
            products = _bits(linear(hidden, scale))
            programs.add_messages_bits(
                _bits(hidden), products, sums.at_src, edges.sources, first, sums.total, sums.scaled
            )

    def _write_changes(self, edges: Edges, horizon: int, changes: Any) -> None:
        inner, outer = self._composition.inner, self._composition.readout(edges.taps, horizon)
        layers = inner.bias.numpy(), outer.weight.numpy(), outer.bias.numpy()
        for first, hidden in self._hidden(edges, self._composition.num_rounds):
            products = _bits(linear(hidden, inner.product_weight))
            programs.read_out_bits(products, *layers, programs.SILU, changes[first : first + len(hidden)])

    def _hidden(self, edges: Edges, rounds: int) -> Iterator[tuple[int, Tensor]]:
        """The edges' features after so many rounds, at least one: the first edge, and features of shape (edges, H)."""
        step, (features, weight) = self._edges_at_once(), self._entrance(edges)
        for first in range(0, len(features), step):
            hidden = self._entered(features[first : first + step], weight, edges, first)
            for index in range(1, rounds):
                hidden = linear(hidden, self._composition.round(index).hidden.product_weight)
                self._activate(hidden, index, edges, first)
            yield first, hidden

    def _entrance(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """The factors of the first round: features (edges, F) and weight (F, H), or both rounded, weight (H, F)."""
        weight = self._composition.round(0, edges.taps).hidden.weight
        if edges.features.shape[1] == programs.FEW_FEATURES:
            return edges.features, weight.T.contiguous()
        features, weight = differences(edges.features, weight, self._composition.context)
        return features.bfloat16(), weight.bfloat16()

    def _entered(self, features: Tensor, weight: Tensor, edges: Edges, first: int) -> Tensor:
        """The features after the first round, shape (edges, H)."""
        if features.dtype == torch.bfloat16:
            hidden = linear(features, weight)
            self._activate(hidden, 0, edges, first)
            return hidden
        hidden = features.new_empty(len(features), weight.shape[1], dtype=torch.bfloat16)
        ends = edges.from_dst[0], edges.from_src[0]
        programs.enter_bits(features.numpy(), weight.numpy(), *ends, edges.sources, first, programs.SILU, _bits(hidden))
        return hidden

    def _activate(self, hidden: Tensor, index: int, edges: Edges, first: int) -> None:
        ends = edges.from_dst[index], edges.from_src[index]
        programs.activate_bits(_bits(hidden), *ends, edges.sources, first, programs.SILU)


def _bits(numbers: Tensor) -> Any:
    return numbers.view(torch.int16).numpy()
