"""Is a neural graph whole? Every number of every parameter is on exactly one edge, and all groups exist."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from ninokit.errors import GraphError
from ninokit.graph.views import View

if TYPE_CHECKING:
    from ninokit.graph.structure import Edges, NeuralGraph

__all__ = ["check_graph"]


def check_graph(graph: NeuralGraph) -> None:
    """Check a graph as a whole.

    The cost grows with the number of blocks, not of parameters.

    Args:
        graph: any neural graph.

    Raises:
        GraphError: naming the parameter, its shapes and its groups.
    """
    _check_groups(graph)
    for name, shape in graph.parameters.items():
        blocks = [block for block in graph.edges if block.parameter == name]
        _check_shapes(name, shape, blocks)
        _check_coverage(name, shape, blocks)


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


def _check_shapes(name: str, shape: Sequence[int], blocks: Sequence[Edges]) -> None:
    for block in blocks:
        view = _view(block)
        group, dst, src, _ = view.shape
        expected = (block.groups, block.dst.size // block.groups, block.src.size // block.groups)
        if (group, dst, src) != expected:
            raise GraphError(
                f"{name}: read as (group, dst, src) = {(group, dst, src)}, but its edges "
                f"{block.src.name!r} ({block.src.size}) → {block.dst.name!r} ({block.dst.size}) in {block.groups} "
                f"slices need {expected}"
            )
        fits = len(view.window) == len(shape)
        if not fits or any(stop > size for (_, stop), size in zip(view.window, shape, strict=True)):
            raise GraphError(f"{name}: its view covers {view.window}, its shape is {tuple(shape)}")


def _check_coverage(name: str, shape: Sequence[int], blocks: Sequence[Edges]) -> None:
    """Blocks are boxes in the parameter; disjoint boxes of the right total size cover it exactly once."""
    for first, second in combinations(blocks, 2):
        if _overlap(_view(first), _view(second)):
            raise GraphError(
                f"{name}: covered twice, by the edges {first.src.name} → {first.dst.name} and "
                f"{second.src.name} → {second.dst.name}; every number belongs on one edge"
            )
    total, covered = math.prod(shape), sum(math.prod(_view(block).shape) for block in blocks)
    if covered != total:
        raise GraphError(
            f"{name}: {total - covered} of its {total} numbers (shape {tuple(shape)}) are on no edge; "
            f"add edges that carry them"
        )


def _overlap(first: View, second: View) -> bool:
    boxes = list(zip(first.window, second.window, strict=True))
    if first.factors == second.factors:  # tap ranges compare only under the same reading
        boxes.append((first.taps, second.taps))
    return all(a[0] < b[1] and b[0] < a[1] for a, b in boxes)


def _view(block: Edges) -> View:
    if block.view is None:  # Edges refuses a parameter without a view
        raise GraphError(f"{block.label}: has no view")
    return block.view
