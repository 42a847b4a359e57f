"""What the authors of encoders write with: groups, blocks, and a final check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from ninokit.errors import GraphError
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph, Neurons, SharedEnd, slice_shape
from ninokit.graph.views import View, Window, make_view

__all__ = ["MAX_TAPS", "GraphBuilder"]

MAX_TAPS = 9  # numbers an edge that the published nowcasters take: a 3×3 kernel


class GraphBuilder:
    """Build a neural graph group by group and block by block.

    Args:
        model: the network whose parameters the graph must cover, each exactly once (tied parameters once in all).

    Example:
        >>> import torch
        >>> from ninokit.graph import EdgeKind, GraphBuilder
        >>> model = torch.nn.Linear(3, 2)
        >>> builder = GraphBuilder(model)
        >>> inputs, outputs = builder.neurons("input", 3), builder.neurons("output", 2)
        >>> builder.edges(EdgeKind.LINEAR, inputs, outputs, parameter="weight", axes="dst src")
        >>> builder.vector(EdgeKind.BIAS, outputs, parameter="bias")
        >>> builder.build().num_edges
        8
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self._neurons: list[Neurons] = []
        self._edges: list[Edges] = []

    def neurons(self, name: str, size: int, rigid: int = 1) -> Neurons:
        """Add a group.

        Args:
            name: unique in the graph.
            size: number of neurons, at least 1.
            rigid: runs of so many consecutive neurons keep their inner order and move as one; the size itself if the
                order is fixed altogether, as that of a table's rows.

        Returns:
            The group, for use in `edges`.

        Raises:
            GraphError: if the name is taken, the size is below 1, or the runs do not divide it.
        """
        if any(group.name == name for group in self._neurons):
            raise GraphError(f"neurons {name!r} stand in the graph twice; give every group a name of its own")
        group = Neurons(name, size, rigid)
        self._neurons.append(group)
        return group

    def edges(
        self,
        kind: EdgeKind,
        src: Neurons,
        dst: Neurons,
        *,
        parameter: str | None = None,
        axes: str | None = None,
        groups: int = 1,
        shared: SharedEnd | None = None,
        window: Mapping[int, Window] | None = None,
    ) -> None:
        """Add a block of edges; a kernel of more than 9 taps becomes parallel blocks of at most 9 each.

        Args:
            kind: what the edges are.
            src: the neurons that they leave.
            dst: the neurons that they enter.
            parameter: the parameter that they carry; None for structural edges.
            axes: a label for each axis of the parameter, see `ninokit.graph.views.make_view`.
            groups: slices that source and destination are cut into; 1 is dense, their size diagonal.
            shared: an end that is not cut, since all slices share it: the block is dense, and only the other end's
                axis is in two parts.
            window: axis → (start, stop) or (start, stop, step) of the parameter, if the block is a slice of it.

        Raises:
            GraphError: naming the parameter, its shape and the groups, if they do not fit together.
        """
        if parameter is None:
            self._edges.append(Edges(kind, src, dst, groups, shared=shared))
            return
        for view in _split_taps(self._view(src, dst, parameter, axes or "", groups, shared, window)):
            self._edges.append(Edges(kind, src, dst, groups, parameter, view, shared))

    def vector(
        self,
        kind: EdgeKind,
        dst: Neurons,
        *,
        parameter: str,
        axes: str = "dst",
        window: Mapping[int, Window] | None = None,
    ) -> None:
        """Add a parameter that acts on each neuron of a group: one extra node, and an edge from it to each.

        Args:
            kind: what the edges are, such as `EdgeKind.BIAS` or `EdgeKind.NORM_SCALE`.
            dst: the neurons that it acts on.
            parameter: its name, which the extra node bears too.
            axes: a label for each of its axes.
            window: axis → (start, stop) or (start, stop, step) of the parameter, if the block is a slice of it.

        Raises:
            GraphError: as `edges`.
        """
        name = parameter if window is None else f"{parameter}[{dst.name}]"
        self.edges(kind, self.neurons(name, 1), dst, parameter=parameter, axes=axes, window=window)

    def build(self) -> NeuralGraph:
        """The finished graph.

        Returns:
            A graph that covers every parameter of the model exactly once.

        Raises:
            GraphError: naming the parameter that is missing or covered twice.
        """
        return NeuralGraph(tuple(self._neurons), tuple(self._edges), dict(self._shapes))

    def _view(
        self,
        src: Neurons,
        dst: Neurons,
        parameter: str,
        axes: str,
        groups: int,
        shared: SharedEnd | None,
        window: Mapping[int, Window] | None,
    ) -> View:
        if parameter not in self._shapes:
            raise GraphError(f"{parameter}: the network has no parameter of this name; it has {sorted(self._shapes)}")
        sizes = slice_shape(parameter, src, dst, groups, shared)
        expected = dict(zip(("group", "dst", "src"), sizes, strict=True))
        try:
            return make_view(self._shapes[parameter], axes, expected=expected, window=window)
        except GraphError as error:
            raise GraphError(
                f"{parameter} on the edges {src.name!r} ({src.size}) → {dst.name!r} ({dst.size}): {error}"
            ) from error


def _split_taps(view: View) -> list[View]:
    starts = range(0, view.taps[1], MAX_TAPS)
    return [replace(view, taps=(start, min(start + MAX_TAPS, view.taps[1]))) for start in starts]
