"""A tile of edges in one fused kernel a pass, on NVIDIA GPUs: hidden features never leave the registers.

Checked through Triton's interpreter, on an H200 with tiles an eighth as large, and compiled for compute capabilities
8.0 to 12.0, where a block fits the registers but for a few numbers. The sizes below have not been tuned on a GPU.

Shape legend: group, dst, src = a tile's slices, and destinations and sources in each; F = features that an edge
enters with (context·taps); H = hidden; parts = of a destination's sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ninokit.nowcasters.blocks import Block
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import triton_programs as programs
from ninokit.nowcasters.kernels.tensor_kernel import MANY_SOURCES, EdgeTile, TensorKernel, sum_messages
from ninokit.nowcasters.precision import Precision

__all__ = ["TritonKernel"]

# Hidden features that a program computes at once: 32 a thread, of which two or three copies fit its registers.
_BLOCK = 2**13
# One stage: what is in shared memory stays below 48 KB, which every GPU gives a program.
_LAUNCH = {"num_warps": 8, "num_stages": 1}
_MIN_HIDDEN, _MAX_HIDDEN = 16, 256  # what matrix products want, and what fits the registers
_SOURCES = 256  # that one program adds up, some blocks one after the other; most tiles are no wider
# Smaller tiles have too few programs to fill a GPU, or programs with too few edges.
_MIN_EDGES = 4096
_MIN_SOURCES = 16
# Of blocks of one tap and many sources. What is called once a tile takes longer than the kernels of a tile that fills a
# GPU: on an H200 0.3 ms, the same for all networks. Where sources are few, features of H numbers would be many.
_TILES_AT_ONCE = 8


class TritonKernel:
    """Messages and predictions of a tile, fused where the tile is large enough.

    Args:
        composition: the nowcaster's matrices; see `supports`.
        precision: of products with a row an edge.
        otherwise: what computes the other tiles, and the first round, whose products are small.
    """

    def __init__(self, composition: Composition, precision: Precision, otherwise: TensorKernel) -> None:
        self._composition = composition
        self._otherwise = otherwise
        hidden = len(composition.inner.weight)
        self._settings: dict[str, Any] = {
            "H": hidden,
            "ROWS": min(64, _BLOCK // hidden),
            "PRECISION": "tf32" if precision == "tf32" else "ieee",
            **_LAUNCH,
        }
        rounds = [composition.round(index) for index in range(composition.num_rounds)]
        between = [matrices.hidden.product_weight for matrices in rounds[1:]]
        # The products that follow an edge's first: of each round's messages but the first round's, and of the readout.
        self._message_weights = [
            torch.stack([*between[:index], matrices.scale.product_weight]) for index, matrices in enumerate(rounds[1:])
        ]
        self._change_weights = torch.stack([*between, composition.inner.product_weight])
        self._first_weights: dict[int, Tensor] = {}  # by taps

    @staticmethod
    def supports(composition: Composition) -> bool:
        """Whether the kernels are made for a nowcaster's dtype and width.

        Args:
            composition: its matrices.

        Returns:
            True for float32, and widths from 16 to 256 that are powers of two.
        """
        hidden = len(composition.inner.weight)
        suits = _MIN_HIDDEN <= hidden <= _MAX_HIDDEN and hidden.bit_count() == 1
        return suits and composition.like.dtype == torch.float32

    def tiles_at_once(self, block: Block) -> int:
        """See `TensorKernel.tiles_at_once`."""
        *_, sources = block.shape
        return max(1, min(_TILES_AT_ONCE, sources // MANY_SOURCES) // block.taps)

    def serially(self) -> AbstractContextManager[None]:
        """See `TensorKernel.serially`."""
        return self._otherwise.serially()

    def messages(self, index: int, tile: EdgeTile, at_dst: Tensor, at_src: Tensor) -> Tensor:
        """See `TensorKernel.messages`."""
        group, dst, src, num_features = tile.features.shape
        if index == 0 or src < _MIN_SOURCES or not _is_large(tile):
            return self._otherwise.messages(index, tile, at_dst, at_src)
        parts = -(-src // _SOURCES)
        sums = tile.features.new_empty(2, parts, group, dst, self._settings["H"])
        from_dst, from_src = self._from_dst(tile), _stacked([*(end for _, end in tile.ends), at_src])
        with torch.cuda.device_of(sums):
            programs.sum_sources[group * dst, parts](
                tile.features, self._first_weight(tile.taps), self._message_weights[index - 1], from_dst, from_src,
                sums, num_features, group, dst, src, from_dst.shape[1], from_src.shape[1],
                ROUNDS=len(tile.ends), SOURCES=_SOURCES, **self._settings,
            )  # fmt: skip
        total, scaled = sums.sum(1)
        return sum_messages(self._composition.round(index), tile.kind, total, scaled, at_dst, at_src)

    def changes(self, tile: EdgeTile, horizon: int) -> Tensor:
        """See `TensorKernel.changes`."""
        if not _is_large(tile):
            return self._otherwise.changes(tile, horizon)
        group, dst, src, num_features = tile.features.shape
        inner, outer = self._composition.inner, self._composition.readout(tile.taps, horizon)
        changes = tile.features.new_empty(group, dst, src, tile.taps)
        from_dst, from_src = self._from_dst(tile), _stacked([end for _, end in tile.ends])
        with torch.cuda.device_of(changes):
            programs.predict_edges[(-(-group * dst * src // self._settings["ROWS"]),)](
                tile.features, self._first_weight(tile.taps), self._change_weights, from_dst, from_src,
                inner.bias, outer.weight, outer.bias,
                changes, num_features, tile.taps, group, dst, src, from_dst.shape[1], from_src.shape[1],
                ROUNDS=len(tile.ends), **self._settings,
            )  # fmt: skip
        return changes

    def _first_weight(self, taps: int) -> Tensor:
        """The first round's matrix, transposed: shape (F, H)."""
        if taps not in self._first_weights:
            self._first_weights[taps] = self._composition.round(0, taps).hidden.weight.T.contiguous()
        return self._first_weights[taps]

    def _from_dst(self, tile: EdgeTile) -> Tensor:
        """What destinations and kind add to the hidden features, shape (rounds, group or 1, dst, H)."""
        rounds = [self._composition.round(index, tile.taps) for index in range(len(tile.ends))]
        biases = torch.stack([matrices.hidden.bias_for(tile.kind) for matrices in rounds])
        return _stacked([end for end, _ in tile.ends]) + biases[:, None, None]


def _is_large(tile: EdgeTile) -> bool:
    return tile.features.shape[:3].numel() >= _MIN_EDGES


def _stacked(ends: Sequence[Tensor]) -> Tensor:
    """New memory, shape (rounds, group or 1, nodes, H): 1 if all slices share the end."""
    return torch.stack([end[:1] if end.stride(0) == 0 else end for end in ends])
