"""Neural graphs, symbolically: groups of neurons, and blocks of edges between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ninokit.errors import GraphError
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.views import View

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    import dgl

__all__ = ["POSITION_DIM", "Edges", "NeuralGraph", "Neurons", "SharedEnd", "slice_shape"]

SharedEnd = Literal["src", "dst"]

POSITION_DIM = 8  # Laplacian eigenvectors a node, as the published nowcasters take them


@dataclass(frozen=True)
class Neurons:
    """A group of neurons that stand in one place of the network, such as a layer's outputs.

    Args:
        name: unique in its graph.
        size: number of neurons, each a node; a bias or a norm scale is a group of one.
        rigid: runs of so many consecutive neurons keep their inner order and move as one; divides the size. 1 where
            neurons are interchangeable, a head's size under rotary embeddings, the group's size where the order is
            fixed altogether.
    """

    name: str
    size: int
    rigid: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise GraphError(f"neurons {self.name!r}: expected at least one neuron, got {self.size}")
        if self.rigid < 1 or self.size % self.rigid:
            raise GraphError(f"neurons {self.name!r}: rigid runs of {self.rigid} do not divide {self.size} neurons")


@dataclass(frozen=True)
class Edges:
    """A block of edges: one parameter, or a slice of one, seen as the edges from one group to another.

    Source and destination are cut into `groups` equal slices, and slice *g* of the source meets every neuron of
    slice *g* of the destination. One slice is a dense block, as many slices as neurons a diagonal. An end that all
    slices share is not cut: the block is dense too, but its parameter has the other end's axis in two parts, as a
    stack of experts' weights has it.

    Args:
        kind: what the edges are.
        src: the neurons that they leave.
        dst: the neurons that they enter.
        groups: number of slices; divides the size of every end that is cut.
        parameter: name of the parameter that they carry, None for structural edges.
        view: how the parameter is read as (group, dst, src, tap), None for structural edges.
        shared: the end that all slices share whole, None if both are cut.
    """

    kind: EdgeKind
    src: Neurons
    dst: Neurons
    groups: int = 1
    parameter: str | None = None
    view: View | None = None
    shared: SharedEnd | None = None

    def __post_init__(self) -> None:
        slice_shape(self.label, self.src, self.dst, self.groups, self.shared)
        if (self.parameter is None) != self.kind.structural or (self.parameter is None) != (self.view is None):
            raise GraphError(f"{self.label}: a structural kind has neither parameter nor view, any other kind has both")

    @property
    def label(self) -> str:
        """The parameter's name, or what joins which groups."""
        return self.parameter or f"{self.kind.name.lower()} edges {self.src.name} → {self.dst.name}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, and destinations and sources of a slice: the sizes (group, dst, src) of the view."""
        return slice_shape(self.label, self.src, self.dst, self.groups, self.shared)

    @property
    def pieces(self) -> int:
        """Number of slices that have no neuron in common, each a dense block: 1 where an end is shared."""
        return self.groups if self.shared is None else 1

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.src.size * self.dst.size // self.pieces

    @property
    def num_taps(self) -> int:
        """Numbers an edge; 1 for structural edges."""
        return 1 if self.view is None else self.view.shape[3]

    @property
    def pattern(self) -> str:
        """``dense``, ``diagonal`` or ``grouped``."""
        if self.pieces == 1:
            return "dense"
        return "diagonal" if self.pieces == self.src.size == self.dst.size else "grouped"


def slice_shape(
    label: str, src: Neurons, dst: Neurons, groups: int, shared: SharedEnd | None = None
) -> tuple[int, int, int]:
    """How the ends of a block of edges are cut.

    Args:
        label: what to call the block in an error.
        src: the neurons that the edges leave.
        dst: the neurons that they enter.
        groups: number of slices.
        shared: the end that all slices share whole, None if both are cut.

    Returns:
        Slices, destinations of a slice, sources of a slice.

    Raises:
        GraphError: if the slices do not divide an end that is cut.

    Example:
        >>> slice_shape("experts", Neurons("stream", 6), Neurons("hidden", 8), 4, "src")
        (4, 2, 6)
    """
    if shared not in {None, "src", "dst"}:
        raise GraphError(f"{label}: shared is 'src', 'dst' or None, got {shared!r}")
    first, *others = [group for end, group in (("src", src), ("dst", dst)) if end != shared]
    if groups < 1 or any(group.size % groups for group in (first, *others)):
        raise GraphError(
            f"{label}: {groups} slices do not divide {first.size} neurons of {first.name!r}"
            + "".join(f" and {group.size} of {group.name!r}" for group in others)
        )
    return (
        groups,
        dst.size if shared == "dst" else dst.size // groups,
        src.size if shared == "src" else src.size // groups,
    )


@dataclass(frozen=True)
class NeuralGraph:
    """A network as a graph whose nodes are neurons and whose edges are parameters.

    It holds blocks, not edges: its size grows with the number of layers, not with the number of parameters. Every
    node has a self-loop besides, which is not listed.

    Args:
        neurons: the groups; their order numbers the nodes.
        edges: the blocks; their order numbers the edges.
        parameters: name → shape of every parameter of the network but those left out, in the network's order.
        roles: names of the groups that keep their order because they are the network's inputs or outputs, and which
            they are: ``"input"``, ``"output"`` or ``"input and output"``. None if the encoder does not know them; then
            they are read off the graph.
        left_out: names of the parameters that the network does not use, and that are on no edge.

    Raises:
        GraphError: if a parameter is missing, covered twice, or read at another shape than it has, or if groups,
            blocks, roles and parameters left out do not fit together.

    Example:
        >>> import torch, ninokit
        >>> graph = ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)))
        >>> graph.num_nodes, graph.num_edges
        (8, 11)
    """

    neurons: tuple[Neurons, ...]
    edges: tuple[Edges, ...]
    parameters: Mapping[str, torch.Size]
    roles: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()
    _positions: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        from ninokit.graph.validation import check_graph

        check_graph(self)

    @cached_property
    def offsets(self) -> Mapping[str, int]:
        """Group name → number of its first node."""
        starts = accumulate((group.size for group in self.neurons), initial=0)
        return {group.name: start for group, start in zip(self.neurons, starts, strict=False)}

    @cached_property
    def blocks(self) -> Mapping[str, Sequence[Edges]]:
        """Parameter name → the blocks that carry it, in the graph's order."""
        found: dict[str, list[Edges]] = {name: [] for name in self.parameters}
        for block in self.edges:
            if block.parameter is not None:
                found[block.parameter].append(block)
        return found

    @property
    def num_nodes(self) -> int:
        """Number of neurons."""
        return sum(group.size for group in self.neurons)

    @property
    def num_edges(self) -> int:
        """Number of edges, self-loops left out."""
        return sum(block.num_edges for block in self.edges)

    @property
    def num_parameters(self) -> int:
        """Number of scalar parameters."""
        return sum(shape.numel() for shape in self.parameters.values())

    @property
    def max_taps(self) -> int:
        """The most numbers that an edge carries."""
        return max((block.num_taps for block in self.edges), default=1)

    @cached_property
    def _drawn_positions(self) -> Tensor:
        from ninokit.graph.positions import laplacian_positions

        return laplacian_positions(self, POSITION_DIM).vectors.float()

    @property
    def positions(self) -> Tensor:
        """The positional encoding of the nodes, shape (num_nodes, 8), computed once.

        See `laplacian_positions`; the seed is 0, so that equal graphs have equal positions.
        """
        return self._drawn_positions if self._positions is None else self._positions

    def with_positions(self, positions: Tensor) -> NeuralGraph:
        """The same graph with a positional encoding from elsewhere.

        Args:
            positions: shape (num_nodes, 8).

        Returns:
            A new graph.

        Raises:
            GraphError: if the shape is another.
        """
        if positions.shape != (self.num_nodes, POSITION_DIM):
            raise GraphError(
                f"positions: expected shape {(self.num_nodes, POSITION_DIM)} (nodes, eigenvectors), "
                f"got {tuple(positions.shape)}"
            )
        graph = copy(self)  # the structure is checked already
        object.__setattr__(graph, "_positions", positions)
        return graph

    def describe(self) -> str:
        """The graph as a table: its groups of neurons, and its blocks of edges."""
        from ninokit.graph.tables import describe

        return describe(self)

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the graph into a PNG, SVG or PDF file and return its path; see `ninokit.graph.plot.plot`."""
        from ninokit.graph.plot import plot

        return plot(self, path)

    def to_dgl(self, states: Mapping[str, Tensor] | None = None, *, taps: int | None = None) -> dgl.DGLGraph:
        """The graph with one DGL node a neuron and one DGL edge a weight; see `ninokit.graph.dgl_view.to_dgl`."""
        from ninokit.graph.dgl_view import to_dgl

        return to_dgl(self, states, taps=taps)
