from __future__ import annotations

import re

import pytest
from hypothesis import given
from slow_views import axes_within

from ninokit.errors import GraphError
from ninokit.graph.lattice import Axis, Digit


def test_plain_factors_have_the_products_as_strides():
    axis = Axis.split([("group", 2), ("dst", 3), ("tap", 4)], start=5)
    assert axis == Axis(5, (Digit("group", 2, 12), Digit("dst", 3, 4), Digit("tap", 4, 1)))
    assert (axis.size, axis.span, axis.stop, axis.consecutive) == (24, 24, 29, True)


def test_strided_window():
    axis = Axis.split([("group", 2), ("src", 3)], start=1, step=4)
    assert axis.indices().tolist() == [1, 5, 9, 13, 17, 21]
    assert (axis.size, axis.span, axis.stop, axis.consecutive) == (6, 21, 22, False)


def test_slice_of_interleaved_heads():
    axis = Axis(2, (Digit("group", 3, 6), Digit("dst", 2)))
    assert axis.indices().tolist() == [2, 3, 8, 9, 14, 15]
    assert not axis.consecutive


@given(axes_within(20))
def test_indices_ascend_from_start_to_stop(axis):
    indices = axis.indices().tolist()
    assert indices == sorted(set(indices))
    assert (indices[0], indices[-1] + 1, len(indices)) == (axis.start, axis.stop, axis.size)
    assert axis.consecutive == (indices == list(range(axis.start, axis.stop)))


ERRORS = [
    (
        (-1, Digit("dst", 2)),
        "axis: expected a start of at least 0 and at least one digit, got "
        "Axis(start=-1, digits=(Digit(label='dst', size=2, stride=1),))",
    ),
    ((0,), "axis: expected a start of at least 0 and at least one digit, got Axis(start=0, digits=())"),
    (
        (0, Digit("out", 2)),
        "axis: the labels are ['group', 'dst', 'src', 'tap'], and '1' at size 1; got 'out' at size 2",
    ),
    (
        (0, Digit("1", 2)),
        "axis: the labels are ['group', 'dst', 'src', 'tap'], and '1' at size 1; got '1' at size 2",
    ),
    ((0, Digit("dst", 0)), "axis: expected sizes and strides of at least 1, got 'dst' at 0 × 1"),
    ((0, Digit("dst", 2, 0)), "axis: expected sizes and strides of at least 1, got 'dst' at 2 × 0"),
    (
        (0, Digit("group", 2, 4), Digit("dst", 3, 2)),
        "axis: the stride 4 of 'group' is too short for the digits inside of it, which reach 4 indices further",
    ),
]


@pytest.mark.parametrize(("axis", "message"), ERRORS, ids=range(len(ERRORS)))
def test_error_messages(axis, message):
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        Axis(axis[0], axis[1:])


def test_a_stride_just_long_enough():
    assert Axis(0, (Digit("group", 2, 5), Digit("dst", 3, 2))).indices().tolist() == [0, 2, 4, 5, 7, 9]
