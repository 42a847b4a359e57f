"""NiNo's function on a stack of networks of one architecture: block by block, differentiable, without DGL.

The function is that of `Nino.forward`, in the form of `ninokit.nowcasters.streaming`: what is linear between two
activations is one matrix, and a block of edges is a dense tensor, so that what the ends of its edges add is broadcast
instead of gathered. The networks of a stack share every operation along a leading axis. In contrast to a forecast all
edges' features are kept, for the backward pass.

Biases, norms, residuals and self-loops are many blocks of few edges; they are gathered into one list, because the
number of operators would cost more than what they compute.

Source: Knyazev et al. 2025 for the function; composing linear maps leaves it, and so its gradients, as they are.

Shape legend: stack = networks; N = nodes; F = features that an edge enters with (context·taps); H = hidden; group,
dst, src = a block's slices, and destinations and sources of a slice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.blocks import Block
from ninokit.nowcasters.composition import Affine, Composition
from ninokit.nowcasters.kernels.tensor_kernel import MANY_SOURCES, scaled_by_few, sum_messages
from ninokit.nowcasters.precision import float32_products, product_dtype

if TYPE_CHECKING:
    from ninokit.nowcasters.nino import Nino

__all__ = ["stacked_changes"]


def stacked_changes(nino: Nino, graph: NeuralGraph, positions: Tensor, states: Mapping[str, Tensor]) -> list[Tensor]:
    """Predict the changes of the parameters of several networks at all horizons; differentiable.

    Args:
        nino: whose weights count, and whose precision: in ``bfloat16`` the products of an edge's hidden features are
            rounded, those of its states are not.
        graph: of the networks' architecture.
        positions: of each network's nodes, shape (stack, N, 8).
        states: name → scaled past states of every parameter of the graph, of all networks, shape
            (stack, context, shape…), oldest first; on the nowcaster's device and in its dtype.

    Returns:
        For each block of the graph that carries a parameter, in its order, the scaled differences from the last
        state, shape (stack, group, dst, src, tap, max_horizon).

    Example:
        >>> import torch, ninokit
        >>> from ninokit.nowcasters import Nino
        >>> graph = ninokit.encode(torch.nn.Linear(3, 2))
        >>> states = {name: torch.randn(4, 5, *shape) for name, shape in graph.parameters.items()}  # four networks
        >>> weight, bias = stacked_changes(Nino(hidden=16), graph, graph.positions.expand(4, -1, -1), states)
        >>> weight.shape, bias.shape
        (torch.Size([4, 1, 2, 3, 1, 40]), torch.Size([4, 1, 2, 1, 1, 40]))
    """
    with float32_products(nino.precision, positions.device):
        return _Stack(nino, graph, positions, states).changes()


class _Ends(NamedTuple):
    """What the nodes contribute to the edges that enter and leave them, each of shape (stack, N, H)."""

    dst: Tensor
    src: Tensor


class _Edges(Protocol):
    """Some edges of a stack, with their features, which change from round to round.

    Attributes:
        blocks: whose edges they are.
        features: shape (stack, …, F), later H instead of F.
    """

    blocks: Sequence[Block]
    features: Tensor

    def add_messages(self, composition: Composition, index: int, sums: Tensor, ends: _Ends) -> None:
        """Add the messages of a round to the sums of their destinations, of shape (stack, N, H)."""

    def update(self, composition: Composition, index: int, ends: _Ends) -> None:
        """Take in what the nodes at the ends have become."""

    def split(self, values: Tensor) -> Iterator[tuple[Block, Tensor]]:
        """What is read off the edges, (stack, …, out), block by block: (stack, group, dst, src, out)."""


class _DenseEdges(_Edges):
    """A block as a dense tensor, of shape (stack, group, dst, src, F).

    Args:
        block: whose edges they are.
        features: of the edges.
    """

    def __init__(self, block: Block, features: Tensor) -> None:
        self.blocks = [block]
        self.features = features
        self._block = block

    def add_messages(self, composition: Composition, index: int, sums: Tensor, ends: _Ends) -> None:
        scale = composition.round(index, self._block.taps).scale
        at_dst, at_src = self._block.at_dst(ends.dst), self._block.at_src(ends.src)
        if index == 0 and at_src.shape[-2] >= MANY_SOURCES:
            scaled = scaled_by_few(self.features, scale.weight, at_src)
        else:
            products = _product(self.features, scale.weight if index == 0 else scale.product_weight)
            scaled = (products * at_src[..., None, :, :].to(products.dtype)).sum(-2, dtype=sums.dtype)
        total = self.features.sum(-2, dtype=sums.dtype)
        matrices = composition.round(index, self._block.taps)
        messages = sum_messages(matrices, self._block.kind, total, scaled, at_dst, at_src)
        sums[:, self._block.dst] += messages.sum(1) if self._block.shared == "dst" else messages.flatten(1, 2)

    def update(self, composition: Composition, index: int, ends: _Ends) -> None:
        hidden = composition.round(index, self._block.taps).hidden
        at_dst = self._block.at_dst(ends.dst) + hidden.bias_for(self._block.kind)
        features = _product(self.features, hidden.weight if index == 0 else hidden.product_weight)
        features += at_dst[..., None, :]
        features += self._block.at_src(ends.src)[..., None, :, :]
        self.features = silu(features.to(composition.product_dtype))

    def split(self, values: Tensor) -> Iterator[tuple[Block, Tensor]]:
        yield self._block, values


class _ListedEdges(_Edges):
    """Blocks of one source a slice, edge by edge, as a tensor of shape (stack, edges, F).

    Args:
        blocks: of one number of taps.
        features: of each block's edges, shape (stack, group, dst, 1, F).
        graph: that the blocks belong to.
    """

    def __init__(self, blocks: Sequence[Block], features: Sequence[Tensor], graph: NeuralGraph) -> None:
        self.blocks = blocks
        self.features = torch.cat([part.flatten(1, 3) for part in features], dim=1)
        self._taps = blocks[0].taps
        nodes, sizes = torch.arange(graph.num_nodes)[:, None], [math.prod(block.shape) for block in blocks]
        device = self.features.device
        self._dst = torch.cat([block.at_dst(nodes).flatten() for block in blocks]).to(device)
        self._src = torch.cat([_sources(block, nodes) for block in blocks]).to(device)
        kinds = torch.tensor([int(block.kind) for block in blocks])
        self._kinds = kinds.repeat_interleave(torch.tensor(sizes)).to(device)

    def add_messages(self, composition: Composition, index: int, sums: Tensor, ends: _Ends) -> None:
        matrices = composition.round(index, self._taps)
        pair = ends.dst[:, self._dst] + ends.src[:, self._src]
        messages = self._apply(matrices.scale) * pair + self._apply(matrices.shift)
        sums.index_add_(1, self._dst, messages)

    def update(self, composition: Composition, index: int, ends: _Ends) -> None:
        hidden = self._apply(composition.round(index, self._taps).hidden)
        self.features = silu(hidden + ends.dst[:, self._dst] + ends.src[:, self._src])

    def split(self, values: Tensor) -> Iterator[tuple[Block, Tensor]]:
        sizes = [math.prod(block.shape) for block in self.blocks]
        for block, part in zip(self.blocks, values.split(sizes, dim=1), strict=True):
            yield block, part.unflatten(1, block.shape)

    def _apply(self, layer: Affine) -> Tensor:
        return linear(self.features, layer.weight) + (layer.bias[self._kinds] if layer.bias.ndim == 2 else layer.bias)


def _sources(block: Block, nodes: Tensor) -> Tensor:
    """The source of each edge of a block that has one a slice."""
    return block.at_src(nodes).expand(*block.shape[:2], -1).flatten()


def _product(features: Tensor, weight: Tensor) -> Tensor:
    """A product with a row an edge, in the weight's dtype."""
    return linear(features.to(weight.dtype), weight)


class _Stack:
    """One pass through the function.

    Arguments as those of `stacked_changes`.
    """

    def __init__(self, nino: Nino, graph: NeuralGraph, positions: Tensor, states: Mapping[str, Tensor]) -> None:
        self._horizon = nino.max_horizon
        self._blocks = [*(Block.of(edges, graph) for edges in graph.edges), Block.self_loops(graph)]
        dtype = product_dtype(nino.precision, positions.dtype, positions.device)
        self._composition = Composition(nino, {block.taps for block in self._blocks}, dtype)
        self._nodes = nino.node_embedding(positions)
        self._edges = list(self._parts(graph, states))
        self._degrees = self._nodes.new_zeros(graph.num_nodes, 1)
        for block in self._blocks:
            self._degrees[block.dst] += block.in_degree

    def changes(self) -> list[Tensor]:
        """See `stacked_changes`."""
        rounds = self._composition.num_rounds
        for index in range(rounds):
            self._update_nodes(index)
            self._update_edges(index)
        read = {id(block): changes for edges in self._edges for block, changes in self._read(edges)}
        return [read[id(block)] for block in self._blocks if block.parameter is not None]

    def _parts(self, graph: NeuralGraph, states: Mapping[str, Tensor]) -> Iterator[_Edges]:
        listed: dict[int, list[tuple[Block, Tensor]]] = defaultdict(list)  # by taps
        for block in self._blocks:
            features = self._features(block, states)
            if block.shape[2] == 1:
                listed[block.taps].append((block, features))
            else:
                yield _DenseEdges(block, features)
        for parts in listed.values():
            yield _ListedEdges([block for block, _ in parts], [features for _, features in parts], graph)

    def _features(self, block: Block, states: Mapping[str, Tensor]) -> Tensor:
        """What a block's edges enter with, state-major: shape (stack, group, dst, src, F)."""
        if block.parameter is None or block.view is None:
            constant = self._nodes.new_full((), block.kind.constant)
            return constant.expand(len(self._nodes), *block.shape, self._composition.context)
        return block.view(states[block.parameter]).permute(0, 2, 3, 4, 1, 5).flatten(-2)

    def _update_nodes(self, index: int) -> None:
        """Every node takes in the mean of its messages."""
        matrices, sums = self._composition.round(index), torch.zeros_like(self._nodes)
        message_dst = matrices.message_dst
        ends = _Ends(
            linear(self._nodes, message_dst.weight, message_dst.bias), linear(self._nodes, matrices.message_src)
        )
        for edges in self._edges:
            edges.add_messages(self._composition, index, sums, ends)
        both = torch.cat([self._nodes, sums / self._degrees], dim=-1)
        self._nodes = silu(linear(both, matrices.update.weight, matrices.update.bias))

    def _update_edges(self, index: int) -> None:
        matrices = self._composition.round(index)
        ends = _Ends(linear(self._nodes, matrices.hidden_dst), linear(self._nodes, matrices.hidden_src))
        for edges in self._edges:
            edges.update(self._composition, index, ends)

    def _read(self, edges: _Edges) -> Iterator[tuple[Block, Tensor]]:
        taps = edges.blocks[0].taps
        inner, outer = self._composition.inner, self._composition.readout_of_all_horizons(taps)
        hidden = silu(_product(edges.features, inner.product_weight) + inner.bias.to(inner.product_weight.dtype))
        changes = _product(hidden, outer.product_weight).to(outer.bias.dtype) + outer.bias
        return edges.split(changes.unflatten(-1, (taps, self._horizon)))
