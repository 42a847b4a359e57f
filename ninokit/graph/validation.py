"""Is a neural graph whole? Every number of every parameter is on exactly one edge, and all groups exist."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit.errors import GraphError
from ninokit.graph.coverage import find_overlap
from ninokit.graph.views import View

if TYPE_CHECKING:
    from ninokit.graph.structure import Edges, NeuralGraph

__all__ = ["ROLES", "check_graph"]

ROLES = ("input", "output", "input and output")


def check_graph(graph: NeuralGraph) -> None:
    """Check a graph as a whole.

    The cost grows with the number of blocks, not of parameters.

    Args:
        graph: any neural graph.

    Raises:
        GraphError: naming the parameter, its shapes and its groups.
    """
    _check_groups(graph)
    _check_roles(graph)
    _check_left_out(graph)
    for name, shape in graph.parameters.items():
        _check_shapes(name, shape, graph.blocks[name])
        _check_coverage(name, shape, graph.blocks[name])


def _check_groups(graph: NeuralGraph) -> None:
    repeated = [name for name, count in Counter(group.name for group in graph.neurons).items() if count > 1]
    if repeated:
        raise GraphError(f"neurons {repeated[0]!r} stand in the graph twice; give every group a name of its own")
    known = set(graph.neurons)
    for block in graph.edges:
        for group in (block.src, block.dst):
            if group not in known:
                raise GraphError(f"{block.label}: its neurons {group.name!r} ({group.size}) are not in the graph")
        if block.parameter is not None and block.parameter not in graph.parameters:
            raise GraphError(
                f"{block.parameter}: the network has no parameter of this name; it has {sorted(graph.parameters)}"
            )


def _check_roles(graph: NeuralGraph) -> None:
    roles = graph.roles or {}
    if unknown := sorted(roles.keys() - {group.name for group in graph.neurons}):
        raise GraphError(f"roles: the graph has no neurons {', '.join(map(repr, unknown))}")
    for name, role in roles.items():
        if role not in ROLES:
            raise GraphError(f"roles: neurons {name!r} are {', '.join(map(repr, ROLES))} or left out, got {role!r}")


def _check_left_out(graph: NeuralGraph) -> None:
    if carried := [name for name in graph.left_out if name in graph.parameters]:
        raise GraphError(f"{carried[0]}: left out and among the parameters of the graph; it is one or the other")


def _check_shapes(name: str, shape: Sequence[int], blocks: Sequence[Edges]) -> None:
    for block in blocks:
        view = _view(block)
        group, dst, src, _ = view.shape
        if (group, dst, src) != block.shape:
            raise GraphError(
                f"{name}: read as (group, dst, src) = {(group, dst, src)}, but its edges "
                f"{block.src.name!r} ({block.src.size}) → {block.dst.name!r} ({block.dst.size}) in {block.groups} "
                f"slices need {block.shape}"
            )
        fits = len(view.axes) == len(shape)
        if not fits or any(axis.stop > size for axis, size in zip(view.axes, shape, strict=True)):
            raise GraphError(f"{name}: its view covers {view.window}, its shape is {tuple(shape)}")
        if view.needs_copy(shape):
            raise GraphError(f"{name}: its view {view.spelled!r} needs a copy of the shape {tuple(shape)}")


def _check_coverage(name: str, shape: Sequence[int], blocks: Sequence[Edges]) -> None:
    """Blocks that have no number in common and the right total size cover the parameter exactly once."""
    views = [_view(block) for block in blocks]
    if overlap := find_overlap(views):
        first, second = (blocks[place] for place in overlap)
        raise GraphError(
            f"{name}: covered twice, by the edges {first.src.name} → {first.dst.name} and "
            f"{second.src.name} → {second.dst.name}; every number belongs on one edge"
        )
    total, covered = math.prod(shape), sum(math.prod(view.shape) for view in views)
    if covered != total:
        raise GraphError(
            f"{name}: {total - covered} of its {total} numbers (shape {tuple(shape)}) are on no edge; "
            f"add edges that carry them"
        )


def _view(block: Edges) -> View:
    if block.view is None:  # Edges refuses a parameter without a view
        raise GraphError(f"{block.label}: has no view")
    return block.view
