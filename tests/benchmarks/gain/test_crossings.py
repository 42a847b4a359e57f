"""Where a curve reaches a level for good, by curves made by hand."""

import math

import pytest

from ninokit.benchmarks.crossings import Crossing, lasting_crossing
from ninokit.errors import ConfigError

STEPS = [0, 25, 50, 75, 100, 125, 150, 175]


@pytest.mark.parametrize(
    ("level", "step"), [(7.5, 12.5), (7.0, 25.0), (6.2, 45.0), (1.0, 175.0), (1.5, 162.5)], ids=str
)
def test_is_interpolated_between_two_evaluations(level, step):
    found = lasting_crossing(STEPS, [8, 7, 6, 5, 3, 2.5, 2, 1], level)

    assert found.step == pytest.approx(step, abs=1e-9)
    assert found.bound == "="


def test_one_lucky_dip_does_not_count():
    losses = [8, 2, 8, 8, 3, 2, 2, 2]  # the dip and the next four have a mean of 4.6

    assert lasting_crossing(STEPS, losses, 4.0) == Crossing(95.0, "=")  # from 8 to 3, four fifths of the way
    assert lasting_crossing(STEPS, losses, 4.6).step == pytest.approx(25 * 3.4 / 6)


def test_an_evaluation_above_the_level_may_follow_if_the_mean_holds():
    assert lasting_crossing(STEPS, [8, 4, 5, 3, 3, 3, 3, 3], 4.0) == Crossing(25.0, "=")


def test_hold_says_how_many_have_to_hold_it():
    losses = [8, 2, 8, 8, 3, 2, 2, 2]

    assert lasting_crossing(STEPS, losses, 4.0, hold=1).step == pytest.approx(25 * 4 / 6)
    assert lasting_crossing(STEPS, losses, 4.9, hold=2).step == pytest.approx(75 + 25 * 3.1 / 5)


def test_at_the_end_the_mean_of_those_that_are_left_counts():
    assert lasting_crossing(STEPS, [8, 8, 8, 8, 8, 8, 8, 4], 6.0) == Crossing(162.5, "=")
    assert lasting_crossing(STEPS, [8, 8, 8, 8, 8, 4, 9, 8], 6.0) == Crossing(175.0, "≥")
    assert lasting_crossing(STEPS, [8, 8, 8, 8, 8, 4, 7, 7], 6.0) == Crossing(112.5, "=")


def test_after_a_dip_that_did_not_last_the_crossing_is_the_evaluation_itself():
    losses = [9, 5, 5, 5, 5, 11, 5, 0]  # at 25 the mean of five is 6.2, at 50 too, at 75 it is 5.2

    assert lasting_crossing(STEPS, losses, 6.0) == Crossing(75.0, "=")


def test_never_reached_is_a_bound_from_the_end():
    assert lasting_crossing(STEPS, [8, 7, 6, 5, 3, 2.5, 2, 1], 0.5) == Crossing(175.0, "≥")


def test_below_the_level_from_the_start_is_a_bound_from_there():
    losses = [8, 7, 6, 5, 3, 2.5, 2, 1]

    assert lasting_crossing([10, *STEPS[1:]], losses, 9.0) == Crossing(10.0, "≤")
    assert lasting_crossing(STEPS, losses, 8.0) == Crossing(0.0, "=")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_never_holds(bad):
    assert lasting_crossing(STEPS, [8, 3, 3, bad, 3, 3, 3, 3], 4.0) == Crossing(100.0, "=")
    assert lasting_crossing(STEPS, [8, 3, 3, 3, 3, 3, 3, bad], 4.0).step == pytest.approx(20.0)
    assert lasting_crossing(STEPS, [bad] * 8, 4.0) == Crossing(175.0, "≥")


@pytest.mark.parametrize(
    ("steps", "losses", "level", "hold", "message"),
    [
        ([], [], 1.0, 5, r"crossing: expected one loss a step, .* steps of shape \(0,\) and losses of shape \(0,\)"),
        ([0, 1], [1.0], 1.0, 5, r"crossing: expected one loss a step, .* shape \(2,\) and losses of shape \(1,\)"),
        ([0, 2, 2], [3, 2, 1], 1.0, 5, r"crossing: expected ascending steps; got \[0.0, 2.0, 2.0\]. Sort"),
        ([0, 1], [2, 1], math.nan, 5, r"crossing: expected a number as the level to reach; got NaN. Leave"),
        ([0, 1], [2, 1], 1.0, 0, r"crossing: hold must be at least 1; got 0"),
    ],
)
def test_what_does_not_fit_is_refused(steps, losses, level, hold, message):
    with pytest.raises(ConfigError, match=message):
        lasting_crossing(steps, losses, level, hold)
