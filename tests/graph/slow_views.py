"""Views number by number: what `ninokit.graph.views` must agree with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from hypothesis import strategies as st

from ninokit.graph.lattice import LABELS, Axis, Digit
from ninokit.graph.views import View


def slow_places(view: View) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each place (group, dst, src, tap) of a view, and the index of the parameter's number there."""
    for values in product(*(range(digit.size) for axis in view.axes for digit in axis.digits)):
        left = iter(values)
        counts, index = dict.fromkeys((*LABELS, "1"), 0), []
        for axis in view.axes:
            at = axis.start
            for digit in axis.digits:
                value = next(left)
                at += value * digit.stride
                counts[digit.label] = counts[digit.label] * digit.size + value
            index.append(at)
        group, dst, src, tap = (counts[label] for label in LABELS)
        if view.taps[0] <= tap < view.taps[1]:
            yield (group, dst, src, tap - view.taps[0]), tuple(index)


def slow_read(view: View, array: np.ndarray) -> np.ndarray:
    read = np.full(view.shape, -1, dtype=array.dtype)
    for place, index in slow_places(view):
        assert read[place] == -1
        read[place] = array[index]
    return read


def slow_counts(views: Sequence[View], shape: Sequence[int]) -> np.ndarray:
    """How many of the views read each number of a parameter."""
    counts = np.zeros(shape, dtype=int)
    for view in views:
        for _, index in slow_places(view):
            counts[index] += 1
    return counts


@st.composite
def axes_within(draw: st.DrawFn, size: int) -> Axis:
    """An axis of up to three digits whose indices lie below a size; most have gaps."""
    digits: list[Digit] = []
    reach = 0
    for _ in range(draw(st.integers(1, 3))):
        stride = reach + draw(st.integers(1, 3))
        most = min(3, 1 + (size - 1 - reach) // stride)
        count = draw(st.integers(1, most))
        label = draw(st.sampled_from([*LABELS, "1"] if count == 1 else LABELS))
        digits.insert(0, Digit(label, count, stride))
        reach += (count - 1) * stride
    return Axis(draw(st.integers(0, size - 1 - reach)), tuple(digits))


@st.composite
def views_of(draw: st.DrawFn, shape: Sequence[int]) -> View:
    """A view of any lattice in a shape, with any range of taps; it may need a copy."""
    axes = tuple(draw(axes_within(size)) for size in shape)
    taps = math.prod(digit.size for axis in axes for digit in axis.digits if digit.label == "tap")
    start = draw(st.integers(0, taps - 1))
    return View(axes, (start, draw(st.integers(start + 1, taps))))


shapes = st.lists(st.integers(1, 9), max_size=3).map(tuple)
