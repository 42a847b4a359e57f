"""NiNo's forecast block by block: exact, and without a feature vector an edge.

The function is that of `Nino.forward`. Two things make it cheap. First, everything linear between two activations is
composed into single matrices, once, in float64. Second, the edges of a block are its parameter's numbers in the
parameter's own layout, so that a tile of edges is a slice of the history; its hidden features are computed tile by
tile, summed into the nodes, and forgotten. Memory is a few features a *neuron* and one tile, whatever the network.

Source: Knyazev et al. 2025 for the function; the sums follow from its messages being affine in the edge features.

Shape legend: H = hidden; N = nodes; F = features that an edge enters a round with (taps·context, later H);
group, dst, src = a block's slices, and destinations and sources of a slice (of a tile of them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph
from ninokit.graph.views import View
from ninokit.nowcasters.base import History
from ninokit.nowcasters.scaling import Scale

if TYPE_CHECKING:
    from ninokit.nowcasters.nino import EdgeUpdate, ModulatedConvolution, Nino

__all__ = ["stream_forecast"]

# Edges a tile: on a CPU its hidden features should stay in the cache, on a GPU they should fill the device.
_TILE_EDGES = {"cpu": 4096, "cuda": 2**17}


def stream_forecast(nino: Nino, graph: NeuralGraph, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
    """Predict every parameter, one by one, with memory for nodes and one tile of edges alone.

    Args:
        nino: whose weights count; the forecast runs on its device and in its dtype.
        graph: the network's neural graph.
        history: name → past states, shape (context, shape…), on any device.
        horizon: from 1 to the nowcaster's longest.

    Yields:
        Name and prediction, of the parameter's shape, in the history's dtype, on the nowcaster's device.
    """
    with torch.no_grad():
        stream = _Stream(nino, graph, history)
        stream.pass_messages()
    for name in graph.parameters:
        with torch.no_grad():  # not around the yield: what the caller does is not ours
            prediction = stream.predict(name, horizon)
        yield name, prediction


@dataclass(frozen=True)
class _Affine:
    """x ↦ weight x + bias, with the bias perhaps one a kind of edges."""

    weight: Tensor  # shape: (out, in)
    bias: Tensor  # shape: (out,) or (kinds, out)

    @classmethod
    def of(cls, layer: nn.Linear) -> _Affine:
        return cls(layer.weight.double(), layer.bias.double())

    def after(self, inner: _Affine) -> _Affine:
        """The composition, self(inner(x))."""
        return _Affine(self.weight @ inner.weight, inner.bias @ self.weight.T + self.bias)

    def rows(self, rows: slice) -> _Affine:
        return _Affine(self.weight[rows], self.bias[..., rows])

    def to(self, like: Tensor) -> _Affine:
        return _Affine(self.weight.to(like).contiguous(), self.bias.to(like).contiguous())

    def bias_for(self, kind: EdgeKind) -> Tensor:
        return self.bias[int(kind)] if self.bias.ndim == 2 else self.bias

    def linear(self, features: Tensor, out: Tensor | None = None) -> Tensor:
        """Without the bias: (…, in) → (…, out), perhaps into the first rows of `out`, of shape (rows, out)."""
        rows = features.flatten(0, -2)
        result = torch.mm(rows, self.weight.T, out=None if out is None else out[: len(rows)])
        return result.view(*features.shape[:-1], -1)


@dataclass(frozen=True)
class _Round:
    """One round of message passing, composed with what comes out of the round before."""

    scale: _Affine  # F → H, of the messages
    shift: _Affine  # F → H
    message_dst: _Affine  # H → H
    message_src: Tensor  # shape: (H, H)
    update: _Affine  # 2H → H: nodes and mean message to nodes, before the activation
    hidden: _Affine  # F → H: the edge update before its activation, from the edge's own features
    hidden_dst: Tensor  # shape: (H, H)
    hidden_src: Tensor  # shape: (H, H)

    @classmethod
    def of(cls, convolution: ModulatedConvolution, update: EdgeUpdate, entering: _Affine, like: Tensor) -> _Round:
        size = convolution.output.out_features
        modulation = _Affine.of(convolution.modulation).after(entering)
        message = _Affine.of(convolution.message)
        hidden = _Affine.of(update.edge).after(entering)
        ends = update.source.bias.double() + update.destination.bias.double()
        return cls(
            scale=modulation.rows(slice(0, size)).to(like),
            shift=modulation.rows(slice(size, None)).to(like),
            message_dst=_Affine(message.weight[:, :size], message.bias).to(like),
            message_src=message.weight[:, size:].to(like),
            update=_Affine.of(convolution.output).after(_Affine.of(convolution.update)).to(like),
            hidden=_Affine(hidden.weight, hidden.bias + ends).to(like),
            hidden_dst=update.destination.weight.to(like),
            hidden_src=update.source.weight.to(like),
        )


@dataclass(frozen=True)
class _Block:
    """A block of edges with the node numbers of its ends; structural ones carry a constant."""

    kind: EdgeKind
    dst: slice
    src: slice
    shape: tuple[int, int, int]  # (group, dst, src)
    taps: int = 1
    parameter: str | None = None
    view: View | None = None

    @classmethod
    def of(cls, edges: Edges, graph: NeuralGraph) -> _Block:
        start_dst, start_src = graph.offsets[edges.dst.name], graph.offsets[edges.src.name]
        return cls(
            edges.kind,
            slice(start_dst, start_dst + edges.dst.size),
            slice(start_src, start_src + edges.src.size),
            (edges.groups, edges.dst.size // edges.groups, edges.src.size // edges.groups),
            edges.num_taps,
            edges.parameter,
            edges.view,
        )

    def at_dst(self, nodes: Tensor, tile: _Tile) -> Tensor:
        """A tile's destinations: (N, H) → (group, dst, H), sharing memory."""
        return nodes[self.dst].unflatten(0, self.shape[:2])[tile.group, tile.dst]

    def at_src(self, nodes: Tensor, tile: _Tile) -> Tensor:
        """A tile's sources: (N, H) → (group, src, H), sharing memory."""
        return nodes[self.src].unflatten(0, (self.shape[0], self.shape[2]))[tile.group, tile.src]

    def tiles(self, edges: int) -> Iterator[_Tile]:
        """Cut the block into tiles of at most so many edges; whole rows of sources where they fit."""
        group, dst, src = self.shape
        src_step = min(src, edges)
        dst_step = min(dst, max(1, edges // src_step))
        group_step = min(group, max(1, edges // (src_step * dst_step)))
        for g in range(0, group, group_step):
            for d in range(0, dst, dst_step):
                for s in range(0, src, src_step):
                    yield _Tile(slice(g, g + group_step), slice(d, d + dst_step), slice(s, s + src_step))


@dataclass(frozen=True)
class _Tile:
    """Part of a block: ranges of its slices, and of destinations and sources in each."""

    group: slice
    dst: slice
    src: slice


class _Stream:
    """One forecast on its way."""

    def __init__(self, nino: Nino, graph: NeuralGraph, history: History) -> None:
        self._like = nino.edge_embedding.weight
        self._graph = graph
        self._history = history
        self._nino = nino
        self._updates = [cast("EdgeUpdate", update) for update in nino.edge_updates]
        self._tile_edges = _TILE_EDGES[self._like.device.type]
        self._blocks = [_Block.of(edges, graph) for edges in graph.edges]
        self._carrying: dict[str | None, list[_Block]] = defaultdict(list)  # by parameter
        for block in self._blocks:
            self._carrying[block.parameter].append(block)
        self._scales = {name: Scale.of(history[name].to(self._like)) for name in graph.parameters}
        inner, self._outer = (_Affine.of(cast("nn.Linear", nino.readout[layer])) for layer in (0, 2))
        self._inner = inner.after(_Affine.of(self._updates[-1].output)).to(self._like)
        self._rounds = [self._composed(index) for index in range(len(nino.convolutions))]
        self._hidden_ends: list[tuple[Tensor, Tensor]] = []  # a round's (dst, src), each of shape (N, H)
        # Hidden features of a tile, and what is made of them; used again for every tile.
        self._buffers = [self._like.new_empty(self._tile_edges, len(self._like)) for _ in range(2)]

    def pass_messages(self) -> None:
        """Compute the nodes round by round, and keep what the edges will want of them."""
        nodes = self._nino.node_embedding(self._graph.positions.to(self._like))  # (N, H)
        degrees = self._in_degrees()[:, None]
        for index, rounds in enumerate(self._rounds):
            any_round = next(iter(rounds.values()))
            mean = self._sum_messages(index, nodes) / degrees
            update = any_round.update
            nodes = nn.functional.silu(update.linear(torch.cat([nodes, mean], dim=1)) + update.bias)
            self._hidden_ends.append((nodes @ any_round.hidden_dst.T, nodes @ any_round.hidden_src.T))

    def predict(self, name: str, horizon: int) -> Tensor:
        """The prediction of one parameter."""
        states = self._history[name]
        prediction = self._like.new_empty(states.shape[1:])
        for block in self._carrying[name]:
            if block.view is not None:  # never None beside a parameter
                self._predict_block(block, block.view(prediction), horizon)
        return self._scales[name].undo(prediction).to(states.dtype)

    def _predict_block(self, block: _Block, target: Tensor, horizon: int) -> None:
        """Fill in a block's scaled prediction; `target` has shape (group, dst, src, tap)."""
        # The readout has one row a tap and horizon.
        rows = slice(horizon - 1, block.taps * self._nino.max_horizon, self._nino.max_horizon)
        outer = self._outer.rows(rows).to(self._like)
        for tile in block.tiles(self._tile_edges):
            features = self._features(block, tile)
            hidden = self._hidden(block, tile, features, len(self._rounds))
            out = self._inner.linear(hidden, out=self._buffers[1])
            out += self._inner.bias
            change = outer.linear(nn.functional.silu(out, inplace=True))
            change += outer.bias
            last = features[..., -block.taps :]  # of the last state
            target[tile.group, tile.dst, tile.src] = last + change

    def _sum_messages(self, index: int, nodes: Tensor) -> Tensor:
        """The sum of the messages over all incoming edges, shape (N, H)."""
        sums = torch.zeros_like(nodes)
        any_round = next(iter(self._rounds[index].values()))
        at_dst = any_round.message_dst.linear(nodes) + any_round.message_dst.bias
        at_src = nodes @ any_round.message_src.T
        for block in (*self._blocks, self._self_loops()):
            round_ = self._rounds[index][block.taps if index == 0 else 1]
            for tile in block.tiles(self._tile_edges):
                features = self._hidden(block, tile, self._features(block, tile), index)
                into = block.at_dst(sums, tile)
                ends = block.at_dst(at_dst, tile), block.at_src(at_src, tile)
                into += _messages(round_, block.kind, features, *ends, self._buffers[1])
        return sums

    def _hidden(self, block: _Block, tile: _Tile, features: Tensor, rounds: int) -> Tensor:
        """The edges' features after so many rounds, shape (group, dst, src, F), in the first buffer from round 1 on."""
        for index in range(rounds):
            hidden = self._rounds[index][block.taps if index == 0 else 1].hidden
            at_dst, at_src = self._hidden_ends[index]
            features = hidden.linear(features, out=self._buffers[0] if index == 0 else None)
            features += (block.at_dst(at_dst, tile) + hidden.bias_for(block.kind))[:, :, None]
            features += block.at_src(at_src, tile)[:, None]
            nn.functional.silu(features, inplace=True)
        return features

    def _features(self, block: _Block, tile: _Tile) -> Tensor:
        """The scaled states on a tile's edges, shape (group, dst, src, context·taps)."""
        context = self._nino.context
        if block.parameter is None or block.view is None:
            sizes = [len(range(n)[cut]) for n, cut in zip(block.shape, (tile.group, tile.dst, tile.src), strict=True)]
            return self._like.new_full((*sizes, context), block.kind.constant)
        states = block.view(self._history[block.parameter])[:, tile.group, tile.dst, tile.src]
        scaled = self._scales[block.parameter].apply(states.to(self._like))
        return scaled.permute(1, 2, 3, 0, 4).flatten(3)

    def _composed(self, index: int) -> Mapping[int, _Round]:
        """The matrices of a round, in the first one by the number of taps that an edge enters with."""
        nino = self._nino
        convolution, update = cast("ModulatedConvolution", nino.convolutions[index]), self._updates[index]
        if index > 0:
            return {1: _Round.of(convolution, update, _Affine.of(self._updates[index - 1].output), self._like)}
        found = {}
        for taps in sorted({1, *(block.taps for block in self._blocks)}):
            # Tap-major as learnt, state-major as read.
            weight = nino.edge_embedding.weight.double().unflatten(1, (-1, nino.context))[:, :taps]
            bias = nino.edge_embedding.bias.double() + nino.kind_embedding.weight.double()
            entering = _Affine(weight.transpose(1, 2).flatten(1), bias)
            found[taps] = _Round.of(convolution, update, entering, self._like)
        return found

    def _self_loops(self) -> _Block:
        everything = slice(0, self._graph.num_nodes)
        return _Block(EdgeKind.SELF_LOOP, everything, everything, (self._graph.num_nodes, 1, 1))

    def _in_degrees(self) -> Tensor:
        degrees = self._like.new_ones(self._graph.num_nodes)  # the self-loops
        for block in self._blocks:
            degrees[block.dst] += block.shape[2]
        return degrees


def _messages(
    round_: _Round, kind: EdgeKind, features: Tensor, at_dst: Tensor, at_src: Tensor, buffer: Tensor
) -> Tensor:
    """The messages of a tile, summed over its sources.

    With scale = P z + p and shift = R z + r from the edge features z, the message of an edge is
    scale ∘ (at_dst + at_src) + shift. Only the sum of (P z) ∘ at_src needs a product an edge.

    Args:
        round_: its P, p, R and r.
        kind: of the edges.
        features: z, shape (group, dst, src, F).
        at_dst: shape (group, dst, H).
        at_src: shape (group, src, H).
        buffer: of shape (at least group·dst·src, H), to be overwritten.

    Returns:
        Shape (group, dst, H).
    """
    count, total = features.shape[2], features.sum(2)
    scale_bias, shift_bias = round_.scale.bias_for(kind), round_.shift.bias_for(kind)
    sums = round_.scale.linear(total) + count * scale_bias
    sums *= at_dst
    sums += round_.shift.linear(total) + count * shift_bias
    sums += scale_bias * at_src.sum(1, keepdim=True)
    scale = round_.scale.linear(features, out=buffer)
    scale *= at_src[:, None]
    return sums + scale.sum(2)
