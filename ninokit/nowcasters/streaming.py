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
from ninokit.nowcasters.base import History, forecast_dtype
from ninokit.nowcasters.blocks import Block, BlockStates, Tile
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import EdgeTile, make_kernel
from ninokit.nowcasters.precision import float32_products, product_dtype
from ninokit.nowcasters.scaling import Scale
from ninokit.nowcasters.workers import Workers, plain_mode

if TYPE_CHECKING:
    from ninokit.nowcasters.nino import Nino

__all__ = ["stream_forecast"]

# Edges a tile: on a CPU its hidden features should stay in the cache, on a GPU they should fill the device.
_TILE_EDGES = {"cpu": 4096}
_TILE_EDGES_ELSEWHERE = 2**17


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
    with Workers(device, graph.num_edges) as workers:
        with plain_mode(device), float32_products(nino.precision, device):
            stream = _Stream(nino, graph, history, workers)
            stream.pass_messages()
        for name in graph.parameters:
            # Not around the yield: what the caller does is not ours.
            with plain_mode(device), float32_products(nino.precision, device):
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
        device = self._like.device
        dtype = product_dtype(nino.precision, self._like.dtype, device)
        self._composition = Composition(nino, {block.taps for block in self._blocks}, dtype)
        self._kernel = make_kernel(self._composition, nino.precision)
        self._rows = _TILE_EDGES.get(device.type, _TILE_EDGES_ELSEWHERE)  # nodes a job, or at an end of a tile
        self._scales = {name: Scale.of(history[name], self._like) for name in graph.parameters}
        self._nodes: Tensor = nino.node_embedding(graph.positions.to(self._like))  # shape: (N, H)
        self._ends: list[tuple[Tensor, Tensor]] = []  # a finished round's (dst, src), each of shape (N, H)

    def pass_messages(self) -> None:
        """Compute the nodes round by round, and keep what the edges will want of them."""
        for index in range(self._composition.num_rounds):
            matrices = self._composition.round(index)
            self._nodes = self._updated_nodes(index, self._sum_messages(index))
            self._ends.append((self._times(matrices.hidden_dst), self._times(matrices.hidden_src)))
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
        with self._kernel.serially():
            for _ in self._workers.run(jobs):
                pass
        return prediction.to(forecast_dtype(self._history[name]))

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
        at_dst = self._times(matrices.message_dst.weight).add_(matrices.message_dst.bias)
        at_src = self._times(matrices.message_src)
        waiting: deque[tuple[Block, Sequence[Tile]]] = deque()  # the jobs under way

        def jobs() -> Iterator[Callable[[], list[Tensor]]]:
            for block in (*self._blocks, Block.self_loops(self._graph)):
                edges, ends = self._bound(block), (block.at_dst(at_dst), block.at_src(at_src))
                for run in self._runs(block):
                    waiting.append((block, run))
                    yield partial(self._message_run, index, edges, run, *ends)

        with self._kernel.serially():
            for messages in self._workers.run(jobs()):  # added here, in order, so that threads make no difference
                block, run = waiting.popleft()
                for tile, message in zip(run, messages, strict=True):
                    block.add_at_dst(sums, tile, message)
        return sums

    def _message_run(
        self, index: int, edges: _BoundBlock, run: Sequence[Tile], at_dst: Tensor, at_src: Tensor
    ) -> list[Tensor]:
        """The messages of a few tiles."""
        return [
            self._kernel.messages(index, edges.tile(tile), at_dst[tile.group, tile.dst], at_src[tile.group, tile.src])
            for tile in run
        ]

    def _updated_nodes(self, index: int, sums: Tensor) -> Tensor:
        """The nodes with the mean message taken in."""
        update, degrees, nodes = self._composition.round(index).update, self._in_degrees(), self._nodes

        def updated(rows: slice) -> Tensor:
            both = torch.cat([nodes[rows], sums[rows] / degrees[rows, None]], dim=1)
            return nn.functional.silu(torch.addmm(update.bias, both, update.weight.T))

        return self._by_rows(updated)

    def _times(self, weight: Tensor) -> Tensor:
        """The nodes, each multiplied by a matrix, shape (N, H)."""
        nodes = self._nodes
        return self._by_rows(lambda rows: nodes[rows] @ weight.T)

    def _by_rows(self, function: Callable[[slice], Tensor]) -> Tensor:
        """A function of nodes, some of them a job: shape (N, H)."""
        step, count = self._rows, self._graph.num_nodes
        rows = [slice(start, start + step) for start in range(0, count, step)]
        result = self._like.new_empty(count, len(self._composition.inner.weight))
        for into, values in zip(rows, self._workers.run(partial(function, part) for part in rows), strict=True):
            result[into] = values
        return result

    def _in_degrees(self) -> Tensor:
        degrees = self._like.new_ones(self._graph.num_nodes)  # the self-loops
        for block in self._blocks:
            degrees[block.dst] += block.in_degree
        return degrees

    def _runs(self, block: Block) -> Iterator[Sequence[Tile]]:
        edges = self._rows * self._kernel.tiles_at_once(block)
        return block.runs(edges, self._rows, self._workers.threads)

    def _bound(self, block: Block) -> _BoundBlock:
        """A block with its numbers, which are looked up once for all its tiles."""
        states = BlockStates.of(block, self._history, self._scales, self._composition.context, self._like)
        return _BoundBlock(states, [(block.at_dst(dst), block.at_src(src)) for dst, src in self._ends])
