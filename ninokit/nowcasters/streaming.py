"""NiNo's forecast block by block: exact, and without a feature vector an edge.

The function is that of `Nino.forward`. Two things make it cheap. First, everything linear between two activations is
composed into single matrices, once, in float64. Second, the edges of a block are its parameter's numbers in the
parameter's own layout, so that a tile of edges is a slice of the history; its hidden features are computed tile by
tile, summed into the nodes, and forgotten. Memory is a few features a *neuron* and one tile a thread, whatever the
network.

Source: Knyazev et al. 2025 for the function; the sums follow from its messages being affine in the edge features.

Shape legend: H = hidden; N = nodes; F = features that an edge enters with (context·taps); group, dst, src = a
block's slices, and destinations and sources of a slice (of a tile of them).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters.base import History
from ninokit.nowcasters.blocks import Block, BlockStates, Tile
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels.tensor_kernel import EdgeTile, TensorKernel
from ninokit.nowcasters.precision import float32_products, product_dtype
from ninokit.nowcasters.scaling import Scale
from ninokit.nowcasters.workers import Workers

if TYPE_CHECKING:
    from ninokit.nowcasters.nino import Nino

__all__ = ["stream_forecast"]

# Edges a tile: on a CPU its hidden features should stay in the cache, on a GPU they should fill the device.
_TILE_EDGES = {"cpu": 4096, "cuda": 2**17}
_TILES_A_JOB = 8


def stream_forecast(nino: Nino, graph: NeuralGraph, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
    """Predict every parameter, one by one, with memory for nodes and a few tiles of edges alone.

    Args:
        nino: whose weights count; the forecast runs on its device and in its dtype.
        graph: the network's neural graph.
        history: name → past states, shape (context, shape…), on any device.
        horizon: from 1 to the nowcaster's longest.

    Yields:
        Name and prediction, of the parameter's shape, in float32 at least, on the nowcaster's device.
    """
    device = nino.edge_embedding.weight.device
    with Workers(device) as workers:
        with torch.no_grad(), float32_products(nino.precision, device):
            stream = _Stream(nino, graph, history, workers)
            stream.pass_messages()
        for name in graph.parameters:
            # Not around the yield: what the caller does is not ours.
            with torch.no_grad(), float32_products(nino.precision, device):
                prediction = stream.predict(name, horizon)
            yield name, prediction


@dataclass(frozen=True)
class _BoundBlock:
    """A block, its states, and what its ends add to the edges' hidden features, a pair (dst, src) a finished round."""

    states: BlockStates
    ends: Sequence[tuple[Tensor, Tensor]]

    def tile(self, tile: Tile) -> EdgeTile:
        ends = [(dst[tile.group, tile.dst], src[tile.group, tile.src]) for dst, src in self.ends]
        return EdgeTile(self.states.block.kind, self.states.block.taps, self.states.features(tile), ends)


class _Stream:
    """One forecast on its way."""

    def __init__(self, nino: Nino, graph: NeuralGraph, history: History, workers: Workers) -> None:
        self._graph = graph
        self._history = history
        self._workers = workers
        self._blocks = [Block.of(edges, graph) for edges in graph.edges]
        self._carrying: dict[str | None, list[Block]] = defaultdict(list)  # by parameter
        for block in self._blocks:
            self._carrying[block.parameter].append(block)
        self._like = nino.edge_embedding.weight
        dtype = product_dtype(nino.precision, self._like.dtype)
        self._composition = Composition(nino, {block.taps for block in self._blocks}, dtype)
        self._kernel = TensorKernel(self._composition)
        self._tile_edges = _TILE_EDGES[self._like.device.type]
        self._scales = {name: Scale.of(history[name], self._like) for name in graph.parameters}
        self._nodes: Tensor = nino.node_embedding(graph.positions.to(self._like))  # shape: (N, H)
        self._ends: list[tuple[Tensor, Tensor]] = []  # a finished round's (dst, src), each of shape (N, H)

    def pass_messages(self) -> None:
        """Compute the nodes round by round, and keep what the edges will want of them."""
        for index in range(self._composition.num_rounds):
            matrices = self._composition.round(index)
            self._update_nodes(index, self._sum_messages(index))
            self._ends.append((self._nodes @ matrices.hidden_dst.T, self._nodes @ matrices.hidden_src.T))
        del self._nodes

    def predict(self, name: str, horizon: int) -> Tensor:
        """The prediction of one parameter."""
        prediction = self._like.new_empty(self._graph.parameters[name])
        jobs = (
            partial(self._predict_run, edges, run, target, horizon)
            for block in self._carrying[name]
            if block.view is not None  # never None beside a parameter
            for edges, target in [(self._bound(block), block.view(prediction))]
            for run in self._runs(block)
        )
        for _ in self._workers.run(jobs):
            pass
        return prediction

    def _predict_run(self, edges: _BoundBlock, run: Sequence[Tile], target: Tensor, horizon: int) -> None:
        """Fill in a few tiles' predictions; `target` is the block's view, of shape (group, dst, src, tap)."""
        for tile in run:
            part, scale = edges.tile(tile), edges.states.scale
            future = self._kernel.changes(part, horizon)
            future += part.features[..., -part.taps :]  # of the last state
            target[tile.window] = future if scale is None else scale.undo(future)

    def _sum_messages(self, index: int) -> Tensor:
        """The sum of the messages over all incoming edges, shape (N, H)."""
        matrices, sums = self._composition.round(index), torch.zeros_like(self._nodes)
        at_dst = torch.addmm(matrices.message_dst.bias, self._nodes, matrices.message_dst.weight.T)
        at_src = self._nodes @ matrices.message_src.T
        waiting: deque[tuple[Block, Sequence[Tile]]] = deque()  # the jobs under way

        def jobs() -> Iterator[Callable[[], list[Tensor]]]:
            for block in (*self._blocks, Block.self_loops(self._graph)):
                edges, ends = self._bound(block), (block.at_dst(at_dst), block.at_src(at_src))
                for run in self._runs(block):
                    waiting.append((block, run))
                    yield partial(self._message_run, index, edges, run, *ends)

        for messages in self._workers.run(jobs()):  # added here, in order, so that threads make no difference
            block, run = waiting.popleft()
            total = block.at_dst(sums)
            for tile, message in zip(run, messages, strict=True):
                total[tile.group, tile.dst].add_(message)
        return sums

    def _message_run(
        self, index: int, edges: _BoundBlock, run: Sequence[Tile], at_dst: Tensor, at_src: Tensor
    ) -> list[Tensor]:
        """The messages of a few tiles."""
        return [
            self._kernel.messages(index, edges.tile(tile), at_dst[tile.group, tile.dst], at_src[tile.group, tile.src])
            for tile in run
        ]

    def _runs(self, block: Block) -> Iterator[Sequence[Tile]]:
        """A block's tiles, a few a job: enough jobs for all threads, few enough not to wait for each other."""
        tiles = list(block.tiles(self._tile_edges))
        size = min(_TILES_A_JOB, max(1, len(tiles) // (2 * self._workers.threads)))
        return (tiles[start : start + size] for start in range(0, len(tiles), size))

    def _update_nodes(self, index: int, sums: Tensor) -> None:
        """Take the mean message into the nodes, in place, some rows at a time."""
        update, degrees = self._composition.round(index).update, self._in_degrees()
        for start in range(0, len(sums), self._tile_edges):
            rows = slice(start, start + self._tile_edges)
            both = torch.cat([self._nodes[rows], sums[rows] / degrees[rows, None]], dim=1)
            self._nodes[rows] = nn.functional.silu(torch.addmm(update.bias, both, update.weight.T))

    def _in_degrees(self) -> Tensor:
        degrees = self._like.new_ones(self._graph.num_nodes)  # the self-loops
        for block in self._blocks:
            degrees[block.dst] += block.in_degree
        return degrees

    def _bound(self, block: Block) -> _BoundBlock:
        """A block with its numbers, which are looked up once for all its tiles."""
        states = BlockStates.of(block, self._history, self._scales, self._composition.context, self._like)
        return _BoundBlock(states, [(block.at_dst(dst), block.at_src(src)) for dst, src in self._ends])
