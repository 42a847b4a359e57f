"""Do blocks of one parameter read a number of it twice?

A block reads a lattice of indices on each axis: a box with gaps, of which a range of taps may be left. Two boxes meet
if they do on every axis.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import torch

from ninokit.graph.lattice import Axis, Digit
from ninokit.graph.views import View

__all__ = ["find_overlap"]

Box = tuple[Axis, ...]

_NOTHING = Axis(0, (Digit("1", 1),))


def find_overlap(views: Sequence[View]) -> tuple[int, int] | None:
    """Two views that read a number in common.

    Windows that are apart cost a sort; only where lattices interleave are their indices listed.

    Args:
        views: of one parameter.

    Returns:
        The places of two such views, in order, or None if there are none.
    """
    boxes: dict[Box, list[int]] = defaultdict(list)
    for place, view in enumerate(views):
        boxes[view.axes].append(place)
    for same in boxes.values():  # a large kernel or a flattened map may have thousands of blocks, apart in taps alone
        for first, second in pairwise(sorted(same, key=lambda place: views[place].taps)):
            if views[second].taps[0] < views[first].taps[1]:
                return min(first, second), max(first, second)
    for one, other in _near(list(boxes)):
        if all(map(_axes_meet, one, other)):
            for first, second in product(boxes[one], boxes[other]):
                if _views_meet(views[first], views[second]):
                    return min(first, second), max(first, second)
    return None


def _near(boxes: Sequence[Box]) -> Iterator[tuple[Box, Box]]:
    """Pairs of boxes that meet if their gaps are filled, found by a sweep along the axis that parts them best."""
    if len(boxes) < 2:
        return
    along = max(range(len(boxes[0])), key=lambda axis: len({box[axis].start for box in boxes}))
    entered: list[Box] = []
    for box in sorted(boxes, key=lambda box: box[along].start):
        entered = [other for other in entered if other[along].stop > box[along].start]
        yield from ((other, box) for other in entered if all(map(_ranges_meet, other, box)))
        entered.append(box)


def _ranges_meet(first: Axis, second: Axis) -> bool:
    return first.start < second.stop and second.start < first.stop


def _axes_meet(first: Axis, second: Axis) -> bool:
    """Whether two axes whose ranges meet have an index in common."""
    return (first.consecutive and second.consecutive) or _share(first.indices(), second.indices())


def _views_meet(first: View, second: View) -> bool:
    """Whether two views whose axes meet do, with the taps that each has.

    A range of taps makes one set of all axes with taps; on the others each axis counts for itself.
    """
    if first.all_taps and second.all_taps:
        return True
    pairs = list(zip(first.axes, second.axes, strict=True))
    tapped = [any(digit.label == "tap" for digit in (*axis.digits, *other.digits)) for axis, other in pairs]
    sizes = [max(axis.stop, other.stop) if taps else 1 for (axis, other), taps in zip(pairs, tapped, strict=True)]
    return _share(_numbers(first, tapped, sizes), _numbers(second, tapped, sizes))


def _numbers(view: View, axes: Sequence[bool], sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where a view's numbers lie on some of the axes."""
    part = View(tuple(axis if chosen else _NOTHING for axis, chosen in zip(view.axes, axes, strict=True)), view.taps)
    return part(torch.arange(math.prod(sizes), device="cpu").view(tuple(sizes))).flatten().numpy()


def _share(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> bool:
    return np.intersect1d(first, second, assume_unique=True).size > 0
