"""A graph's blocks of edges, cut into tiles: what a forecast walks over.

Shape legend: N = nodes; group, dst, src = a block's slices, and destinations and sources of a slice (of a tile of
them); tap = numbers an edge; H = hidden features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph, SharedEnd
from ninokit.graph.views import View
from ninokit.nowcasters.base import History
from ninokit.nowcasters.scaling import Scale

__all__ = ["Block", "BlockStates", "Tile"]

# Sources a tile at most, so that a tile is a rectangle: whichever axis of it lies along the parameter's memory, its
# runs fill cache lines.
_MAX_SOURCES = 256
_MAX_TILES_A_JOB = 8


@dataclass(frozen=True)
class Tile:
    """Part of a block.

    Args:
        group: range of its slices.
        dst: range of the destinations in each.
        src: range of the sources in each.
    """

    group: slice
    dst: slice
    src: slice

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The ranges, as an index."""
        return self.group, self.dst, self.src

    @property
    def shape(self) -> tuple[int, int, int]:
        """The lengths of the ranges."""
        group, dst, src = (cut.stop - cut.start for cut in self.window)
        return group, dst, src


@dataclass(frozen=True)
class Block:
    """A block of edges with the node numbers of its ends.

    Args:
        kind: what the edges are.
        dst: nodes that they enter.
        src: nodes that they leave.
        shape: (group, dst, src).
        taps: numbers an edge.
        parameter: name of the parameter that they carry, None for structural edges.
        view: how it is read, None for structural edges.
        shared: the end that all slices share whole, None if both are cut.
    """

    kind: EdgeKind
    dst: slice
    src: slice
    shape: tuple[int, int, int]
    taps: int = 1
    parameter: str | None = None
    view: View | None = None
    shared: SharedEnd | None = None

    @classmethod
    def of(cls, edges: Edges, graph: NeuralGraph) -> Block:
        """A graph's block."""
        start_dst, start_src = graph.offsets[edges.dst.name], graph.offsets[edges.src.name]
        return cls(
            edges.kind,
            slice(start_dst, start_dst + edges.dst.size),
            slice(start_src, start_src + edges.src.size),
            edges.shape,
            edges.num_taps,
            edges.parameter,
            edges.view,
            edges.shared,
        )

    @classmethod
    def self_loops(cls, graph: NeuralGraph) -> Block:
        """The loop of every node, which a graph does not list."""
        everything = slice(0, graph.num_nodes)
        return cls(EdgeKind.SELF_LOOP, everything, everything, (graph.num_nodes, 1, 1))

    @property
    def in_degree(self) -> int:
        """Edges of the block that enter each of its destinations."""
        return self.shape[2] * (self.shape[0] if self.shared == "dst" else 1)

    def at_dst(self, nodes: Tensor) -> Tensor:
        """What the destinations have: (…, N, H) → (…, group, dst, H), sharing memory."""
        return self._cut(nodes[..., self.dst, :], self.shape[1])

    def at_src(self, nodes: Tensor) -> Tensor:
        """What the sources have: (…, N, H) → (…, group, src, H), sharing memory."""
        return self._cut(nodes[..., self.src, :], self.shape[2])

    def _cut(self, nodes: Tensor, size: int) -> Tensor:
        """An end's nodes, slice by slice; a shared end's are every slice's."""
        slices = nodes.unflatten(-2, (-1, size))
        return slices.expand(*slices.shape[:-3], self.shape[0], -1, -1)

    def add_at_dst(self, nodes: Tensor, tile: Tile, values: Tensor) -> None:
        """Add to what a tile's destinations have.

        Args:
            nodes: shape (N, H), written to.
            tile: of the block.
            values: shape (group, dst, H).
        """
        if self.shared == "dst":
            nodes[self.dst][tile.dst] += values.sum(0)
        else:
            nodes[self.dst].unflatten(0, self.shape[:2])[tile.group, tile.dst] += values

    def tiles(self, edges: int, ends: int) -> Iterator[Tile]:
        """Cut the block into tiles of at most so many edges, with at most so many ends.

        Args:
            edges: at least 1.
            ends: destinations, and sources, of all slices, at least 1. In a block of vectors they are as many as the
                edges.

        Yields:
            Tiles that cover the block once.
        """
        group, dst, src = self.shape
        src_step = min(src, edges, ends, _MAX_SOURCES)
        dst_step = min(dst, edges // src_step, ends)
        src_step = min(src, edges // dst_step, ends)  # few destinations leave room for more sources
        group_step = min(group, edges // (src_step * dst_step), ends // max(src_step, dst_step))
        for g in _ranges(group, group_step):
            for d in _ranges(dst, dst_step):
                for s in _ranges(src, src_step):
                    yield Tile(g, d, s)

    def runs(self, edges: int, ends: int, threads: int) -> Iterator[Sequence[Tile]]:
        """The tiles, a few a job: enough jobs for all threads, few enough that they do not wait for each other.

        Args:
            edges: of a tile at most.
            ends: of a tile at most, see `tiles`; and destinations of a job, whose messages wait in memory to be added.
            threads: that share the jobs.

        Yields:
            Tiles that follow each other.
        """
        tiles = list(self.tiles(edges, ends))
        group, dst, _ = tiles[0].shape
        size = max(1, min(_MAX_TILES_A_JOB, len(tiles) // (2 * threads), ends // (group * dst)))
        return (tiles[start : start + size] for start in range(0, len(tiles), size))


def _viewed(view: View, states: Tensor) -> Tensor:
    try:
        return view(states)
    except RuntimeError:  # axes that the view merges are apart in the memory of these states
        return view(states.contiguous())


def _ranges(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


@dataclass(frozen=True)
class BlockStates:
    """The scaled states on a block's edges, tile by tile.

    Args:
        block: whose edges they are.
        states: the parameter's states through the block's view, shape (context, group, dst, src, tap); of structural
            edges, their constant in this shape.
        scale: of the parameter, None for structural edges.
        like: whose device and dtype the features get.
    """

    block: Block
    states: Tensor
    scale: Scale | None
    like: Tensor

    @classmethod
    def of(cls, block: Block, history: History, scales: Mapping[str, Scale], context: int, like: Tensor) -> BlockStates:
        """Look up what a block's edges carry."""
        if block.parameter is None or block.view is None:
            constant = like.new_full((), block.kind.constant).expand(context, *block.shape, 1)
            return cls(block, constant, None, like)
        return cls(block, _viewed(block.view, history[block.parameter]), scales[block.parameter], like)

    def features(self, tile: Tile) -> Tensor:
        """A tile's part.

        Args:
            tile: of the block.

        Returns:
            Shape (group, dst, src, context·tap), state-major; new memory.
        """
        context, taps = self.states.shape[0], self.states.shape[-1]
        features = self.like.new_empty((*tile.shape, context, taps))
        window = (slice(None), *tile.window)
        features.copy_(self.states[window].permute(1, 2, 3, 0, 4), non_blocking=True)
        features = features.view(*tile.shape, context * taps)
        return features if self.scale is None else self.scale.apply(features)
