from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from slow_views import shapes, slow_counts, views_of

from ninokit.graph.coverage import find_overlap
from ninokit.graph.lattice import Axis, Digit
from ninokit.graph.views import View, make_view


@given(st.data(), shapes, st.integers(1, 4))
def test_an_overlap_is_found_if_and_only_if_a_number_is_read_twice(data, shape, number):
    views = [data.draw(views_of(shape)) for _ in range(number)]
    assume(not any(view.needs_copy(shape) for view in views))
    check_against_counts(views, shape)


@given(st.data(), shapes, st.integers(1, 4))
def test_an_overlap_among_readings_of_one_lattice(data, shape, number):
    """Views that differ in little: moved, or with other taps, or read in another order."""
    view = data.draw(views_of(shape))
    views = [view]
    for _ in range(number):
        axes = [
            Axis(data.draw(st.integers(0, size - axis.span)), axis.digits)
            for axis, size in zip(view.axes, shape, strict=True)
        ]
        start = data.draw(st.integers(view.taps[0], view.taps[1] - 1))
        views.append(View(tuple(axes), (start, data.draw(st.integers(start + 1, view.taps[1])))))
    assume(not any(view.needs_copy(shape) for view in views))
    check_against_counts(views, shape)


def check_against_counts(views: list[View], shape: tuple[int, ...]) -> None:
    found = find_overlap(views)
    assert (found is None) == (slow_counts(views, shape).max() <= 1)
    if found is not None:
        first, second = found
        assert first < second
        assert slow_counts([views[first], views[second]], shape).max() == 2


def test_interleaved_parts_are_apart():
    columns = Axis.split([("src", 4)])
    parts = [View.of((18, 4), [Axis(start, (Digit("group", 3, 6), Digit("dst", 2))), columns]) for start in (0, 2, 4)]
    assert find_overlap(parts) is None
    assert find_overlap([*parts, View.of((18, 4), [Axis.split([("dst", 1)], 9), columns])]) == (1, 3)


def test_taps_of_different_readings_are_compared_number_by_number():
    """Columns 0 to 5 as (src tap) and as (tap src): taps 0 are columns 0 2 4 and 0 1 2."""
    expected = {"group": 1, "dst": 2, "src": 3}
    one, other = (make_view((2, 6), axes, expected=expected) for axes in ("dst (src tap)", "dst (tap src)"))
    ones, others = ([View(view.axes, (tap, tap + 1)) for tap in (0, 1)] for view in (one, other))
    assert find_overlap([ones[0], others[0]]) == (0, 1)
    apart = View.of((2, 6), [Axis.split([("dst", 2)]), Axis(1, (Digit("src", 3, 2), Digit("tap", 1)))])
    assert find_overlap([ones[0], apart]) is None
    assert find_overlap([ones[1], apart]) == (0, 1)


def test_taps_on_another_axis_than_those_of_the_other():
    """Columns 0 and 1 of the rows' first taps, and column 1 of all rows read as taps."""
    rows = View((Axis.split([("dst", 2), ("tap", 2)]), Axis.split([("src", 2)])), (0, 1))
    columns = View((Axis.split([("dst", 4)]), Axis.split([("tap", 2)])), (1, 2))
    assert find_overlap([rows, columns]) == (0, 1)
    assert find_overlap([rows, View((Axis(1, (Digit("dst", 2, 2),)), columns.axes[1]), (1, 2))]) is None


def test_a_grid_of_thousands_of_windows():
    def window(row: int, column: int, size: int) -> View:
        return View((Axis.split([("dst", size)], row), Axis.split([("src", size)], column)), (0, 1))

    starts = [(row, column) for row in range(0, 120, 2) for column in range(0, 120, 2)]
    views = [window(row, column, 2) for row, column in starts]
    assert find_overlap(views) is None
    assert find_overlap([*views, window(77, 33, 1)]) == (starts.index((76, 32)), 3600)
