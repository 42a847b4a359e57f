"""Is a neural graph whole? Every number of every parameter is on exactly one edge, and all groups exist."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING

from ninokit.errors import GraphError
from ninokit.graph.views import View, Window

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
        fits = len(view.window) == len(shape)
        if not fits or any(stop > size for (_, stop), size in zip(view.window, shape, strict=True)):
            raise GraphError(f"{name}: its view covers {view.window}, its shape is {tuple(shape)}")


def _check_coverage(name: str, shape: Sequence[int], blocks: Sequence[Edges]) -> None:
    """Blocks are boxes in the parameter; disjoint boxes of the right total size cover it exactly once."""
    for first, second in _candidates(blocks):
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


def _candidates(blocks: Sequence[Edges]) -> Iterator[tuple[Edges, Edges]]:
    """Pairs of blocks among which is an overlapping one, if there is any.

    Where only taps differ (a large kernel or a flattened map may have thousands of blocks) neighbours are enough.
    """
    boxes: dict[object, list[Edges]] = defaultdict(list)
    for block in blocks:
        boxes[_view(block).factors, _view(block).window].append(block)
    for same in boxes.values():
        yield from pairwise(sorted(same, key=lambda block: _view(block).taps))
    for first, second in combinations(boxes.values(), 2):
        if _windows_overlap(_view(first[0]), _view(second[0])):
            yield from product(first, second)


def _overlap(first: View, second: View) -> bool:
    # Tap ranges compare only under the same reading.
    apart = first.factors == second.factors and not _intersect(first.taps, second.taps)
    return _windows_overlap(first, second) and not apart


def _windows_overlap(first: View, second: View) -> bool:
    return all(_intersect(a, b) for a, b in zip(first.window, second.window, strict=True))


def _intersect(first: Window, second: Window) -> bool:
    return first[0] < second[1] and second[0] < first[1]


def _view(block: Edges) -> View:
    if block.view is None:  # Edges refuses a parameter without a view
        raise GraphError(f"{block.label}: has no view")
    return block.view
