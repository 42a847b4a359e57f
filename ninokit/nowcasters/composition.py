"""NiNo's layers, composed for a forecast: everything linear between two activations is one matrix.

Shape legend: H = hidden; F = features that an edge enters a round with (context·taps, later H); kinds = of edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ninokit.graph.kinds import EdgeKind

if TYPE_CHECKING:
    from ninokit.nowcasters.nino import EdgeUpdate, ModulatedConvolution, Nino

__all__ = ["Affine", "Composition", "Round"]


@dataclass(frozen=True)
class Affine:
    """x ↦ weight x + bias, with the bias perhaps one a kind of edges.

    Args:
        weight: shape (out, in).
        bias: shape (out,) or (kinds, out).
        product_weight: the weight in the dtype of large products, shape (out, in).
    """

    weight: Tensor
    bias: Tensor
    product_weight: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> Affine:
        """A layer in float64, in which layers are composed."""
        return cls._exact(layer.weight.double(), layer.bias.double())

    @classmethod
    def _exact(cls, weight: Tensor, bias: Tensor) -> Affine:
        return cls(weight, bias, weight)

    def after(self, inner: Affine) -> Affine:
        """The composition, self(inner(x))."""
        return self._exact(self.weight @ inner.weight, inner.bias @ self.weight.T + self.bias)

    def plus(self, bias: Tensor) -> Affine:
        """With so much added."""
        return self._exact(self.weight, self.bias + bias)

    def rows(self, rows: slice) -> Affine:
        """Some of the outputs."""
        return self._exact(self.weight[rows], self.bias[..., rows])

    def columns(self, columns: slice) -> Affine:
        """Some of the inputs, the others being zero."""
        return self._exact(self.weight[:, columns], self.bias)

    def to(self, like: Tensor, product_dtype: torch.dtype) -> Affine:
        """Ready for use: on a tensor's device and in its dtype."""
        weight = self.weight.to(like).contiguous()
        return Affine(weight, self.bias.to(like).contiguous(), weight.to(product_dtype))

    def bias_for(self, kind: EdgeKind) -> Tensor:
        """The bias of one kind's edges, shape (out,)."""
        return self.bias[int(kind)] if self.bias.ndim == 2 else self.bias


@dataclass(frozen=True)
class Round:
    """One round of message passing, composed with what comes out of the round before.

    Args:
        scale: F → H, of the messages.
        shift: F → H, of the messages.
        message_dst: H → H, the destination's part of a message.
        message_src: the source's part, shape (H, H).
        update: 2H → H, from nodes and their mean message to nodes, before the activation.
        hidden: F → H, the edges' next features before the activation, from their own.
        hidden_dst: the destination's part of these, shape (H, H).
        hidden_src: the source's part, shape (H, H).
    """

    scale: Affine
    shift: Affine
    message_dst: Affine
    message_src: Tensor
    update: Affine
    hidden: Affine
    hidden_dst: Tensor
    hidden_src: Tensor

    @classmethod
    def of(
        cls,
        convolution: ModulatedConvolution,
        update: EdgeUpdate,
        entering: Affine,
        like: Tensor,
        product_dtype: torch.dtype,
    ) -> Round:
        """Compose a round.

        Args:
            convolution: the round's message passing.
            update: the round's change of the edges.
            entering: from what the edges are given as, to the features that the round reads.
            like: whose device and dtype the matrices get.
            product_dtype: of large products.

        Returns:
            The matrices.
        """
        size = convolution.output.out_features
        modulation, message = Affine.of(convolution.modulation).after(entering), Affine.of(convolution.message)
        ends = update.source.bias.double() + update.destination.bias.double()
        return cls(
            scale=modulation.rows(slice(0, size)).to(like, product_dtype),
            shift=modulation.rows(slice(size, None)).to(like, product_dtype),
            message_dst=message.columns(slice(0, size)).to(like, product_dtype),
            message_src=message.columns(slice(size, None)).to(like, product_dtype).weight,
            update=Affine.of(convolution.output).after(Affine.of(convolution.update)).to(like, product_dtype),
            hidden=Affine.of(update.edge).after(entering).plus(ends).to(like, product_dtype),
            hidden_dst=update.destination.weight.to(like),
            hidden_src=update.source.weight.to(like),
        )


class Composition:
    """A nowcaster's matrices, for the numbers of taps that a graph's edges carry.

    Composed in float64, then cast.

    Args:
        nino: whose layers they are.
        taps: numbers of taps that edges enter with.
        product_dtype: of products with a row an edge; all else is in the nowcaster's own dtype.

    Attributes:
        like: a tensor of the nowcaster's device and dtype.
        product_dtype: as given.
        context: past states an edge carries.
        num_rounds: rounds of message passing.
        inner: the readout before its activation, H → H, from an edge's last hidden features.
    """

    def __init__(self, nino: Nino, taps: Iterable[int], product_dtype: torch.dtype) -> None:
        self.like: Tensor = nino.edge_embedding.weight
        self.product_dtype = product_dtype
        self.context = nino.context
        self.num_rounds = len(nino.convolutions)
        self._nino = nino
        self._updates = [cast("EdgeUpdate", update) for update in nino.edge_updates]
        inner, self._outer = (Affine.of(cast("nn.Linear", nino.readout[layer])) for layer in (0, 2))
        self.inner = inner.after(Affine.of(self._updates[-1].output)).to(self.like, product_dtype)
        self._rounds = [self._composed(index, sorted({1, *taps})) for index in range(self.num_rounds)]
        self._readouts: dict[tuple[int, int], Affine] = {}

    def round(self, index: int, taps: int = 1) -> Round:
        """A round; the first one differs by the taps of the edges that enter it.

        Args:
            index: from 0.
            taps: of the edges.

        Returns:
            Its matrices.
        """
        return self._rounds[index][taps if index == 0 else 1]

    def readout(self, taps: int, horizon: int) -> Affine:
        """The last layer's rows for one horizon, H → taps.

        Args:
            taps: of the edges.
            horizon: from 1.

        Returns:
            The part of the layer that an edge needs.
        """
        if (taps, horizon) not in self._readouts:
            rows = slice(horizon - 1, taps * self._nino.max_horizon, self._nino.max_horizon)
            self._readouts[taps, horizon] = self._outer.rows(rows).to(self.like, self.product_dtype)
        return self._readouts[taps, horizon]

    def readout_of_all_horizons(self, taps: int) -> Affine:
        """The last layer's rows for every horizon, H → taps·horizon, tap-major.

        Args:
            taps: of the edges.

        Returns:
            The part of the layer that an edge needs.
        """
        return self._outer.rows(slice(0, taps * self._nino.max_horizon)).to(self.like, self.product_dtype)

    def _composed(self, index: int, taps: Iterable[int]) -> Mapping[int, Round]:
        convolution = cast("ModulatedConvolution", self._nino.convolutions[index])
        if index == 0:
            entering = {count: self._embedding(count) for count in taps}
        else:
            entering = {1: Affine.of(self._updates[index - 1].output)}
        return {
            count: Round.of(convolution, self._updates[index], affine, self.like, self.product_dtype)
            for count, affine in entering.items()
        }

    def _embedding(self, taps: int) -> Affine:
        """From the states of so many taps to the edge embedding: tap-major as learnt, state-major as read."""
        nino = self._nino
        weight = nino.edge_embedding.weight.double().unflatten(1, (-1, nino.context))[:, :taps]
        bias = nino.edge_embedding.bias.double() + nino.kind_embedding.weight.double()
        return Affine._exact(weight.transpose(1, 2).flatten(1), bias)
