"""A tile of edges on a CPU in float32: compiled as a whole, with SciPy's BLAS for the products.

A few edges at a time pass through all of it, in the cache, and Python is asked once a tile, not once a product: two
threads need its lock so seldom that they do not wait for each other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels.numba_kernel import Edges, NumbaKernel, Sums
from ninokit.nowcasters.kernels.serial_blas import has_serial_blas, serial_blas
from ninokit.nowcasters.kernels.tensor_kernel import TensorKernel

__all__ = ["BlasKernel"]


class BlasKernel(NumbaKernel):
    """Messages and predictions of a tile, in float32.

    Args:
        composition: see `NumbaKernel`.
        otherwise: see `NumbaKernel`.
    """

    _cached_bytes = 2**17  # what a product reads, and what it writes, should both be in the cache

    def __init__(self, composition: Composition, otherwise: TensorKernel) -> None:
        super().__init__(composition, otherwise)
        rounds = [composition.round(index) for index in range(composition.num_rounds)]
        empty = composition.like.new_empty(0, *composition.inner.weight.shape)
        between = [_columns(matrices.hidden.weight)[None] for matrices in rounds[1:]]
        self._between = torch.cat([empty, *between]).numpy()
        self._scales = [_columns(matrices.scale.weight).numpy() for matrices in rounds[1:]]
        self._inner = _columns(composition.inner.weight).numpy()

    @staticmethod
    def supports(composition: Composition) -> bool:
        """See `NumbaKernel.supports`."""
        like = composition.like
        is_float32 = like.device.type == "cpu" and like.dtype == composition.product_dtype == torch.float32
        return is_float32 and has_serial_blas()

    def serially(self) -> AbstractContextManager[None]:
        """See `TensorKernel.serially`."""
        return serial_blas()

    def _add_messages(self, index: int, edges: Edges, sums: Sums) -> None:
        programs.all_messages(
            edges.features.numpy(),
            (self._entrance(edges), self._between[: index - 1], self._scales[index - 1]),
            edges.from_dst,
            edges.from_src,
            sums.at_src,
            edges.sources,
            programs.SILU,
            self._edges_at_once(),
            sums.total,
            sums.scaled,
        )

    def _write_changes(self, edges: Edges, horizon: int, changes: Any) -> None:
        inner, outer = self._composition.inner, self._composition.readout(edges.taps, horizon)
        programs.all_changes(
            edges.features.numpy(),
            (self._entrance(edges), self._between, self._inner),
            edges.from_dst,
            edges.from_src,
            edges.sources,
            (inner.bias.numpy(), outer.weight.numpy(), outer.bias.numpy()),
            programs.SILU,
            self._edges_at_once(),
            changes,
        )

    def _entrance(self, edges: Edges) -> Any:
        """The first round's weight, shape (F, H)."""
        return _columns(self._composition.round(0, edges.taps).hidden.weight).numpy()


def _columns(weight: Tensor) -> Tensor:
    """Contiguous, (out, in) → (in, out)."""
    return weight.T.contiguous()
