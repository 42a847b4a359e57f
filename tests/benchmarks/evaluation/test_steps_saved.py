"""Equivalent steps: savings by hand, a slow twin, and the coverage of the interval."""

from __future__ import annotations

import math
import re
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninokit.benchmarks.evaluation import savings
from ninokit.benchmarks.evaluation.savings import Curve, StepsSaved, equivalent_steps, steps_saved
from ninokit.errors import ConfigError

STEPS = tuple(range(50, 801, 50))


def falling(*offsets: float) -> Curve:
    """Curves that fall by 0.01 a step, from 8 at the start, each seed's shifted."""
    return Curve(STEPS, tuple(tuple(8 + offset - 0.01 * step for step in STEPS) for offset in offsets))


@pytest.mark.parametrize(("equivalent", "share"), [(600, 1 / 3), (400, 0.0), (320, -0.25), (525, 1 - 400 / 525)])
def test_a_saving_is_one_minus_the_steps_over_the_rivals(equivalent, share):
    saved = steps_saved([8 - 0.01 * equivalent] * 2, 400, falling(0, 0))
    assert (saved.share, saved.low, saved.high) == pytest.approx((share,) * 3)
    assert saved.bound == "="
    assert equivalent_steps(falling(0, 0), 8 - 0.01 * equivalent).step == pytest.approx(equivalent)


def test_it_is_read_on_the_mean_curve_and_seeds_on_their_own():
    saved = steps_saved([3.0, 1.0], 400, falling(0.5, -0.5))  # 2 on the mean curve; 3 at 550, 1 at 650
    assert saved.share == pytest.approx(1 / 3)
    assert saved.seeds == ((pytest.approx(1 - 400 / 550), "="), (pytest.approx(1 - 400 / 650), "="))


def test_a_lasting_crossing_counts_and_no_lucky_one():
    losses = (5.0, 2.0, 5.0, 5.0, 5.0, 5.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    rival = Curve(tuple(range(100, 1300, 100)), (losses,))
    assert steps_saved([2.0], 500, rival).share == pytest.approx(1 - 500 / 750)


@pytest.mark.parametrize(("final", "bound", "step"), [(-1.0, "≥", 800), (7.9, "≤", 50)])
def test_bounds(final, bound, step):
    saved = steps_saved([final], 400, falling(0))
    assert (saved.bound, saved.share) == (bound, 1 - 400 / step)
    assert saved.seeds == ((saved.share, bound),)


def test_a_duplicate_of_the_rival_saves_nothing():
    generator = np.random.default_rng(1)
    losses = -np.sort(-generator.normal(size=(5, len(STEPS))), axis=1)
    rival = Curve(STEPS, tuple(map(tuple, losses.tolist())))
    saved = steps_saved(losses[:, STEPS.index(400)].tolist(), 400, rival)
    assert (saved.share, saved.bound) == (0.0, "=")
    assert [share for share, _ in saved.seeds] == [0.0] * 5
    assert (saved.low, saved.high) == pytest.approx((0, 0), abs=1e-12)
    assert not saved.is_claim


def test_an_arm_that_is_twice_as_fast_saves_half():
    def loss(step: float, seed: int) -> float:
        return (1 + 0.1 * seed) * math.exp(-step / 300) + 0.02 * seed

    rival = Curve(STEPS, tuple(tuple(loss(step, seed) for step in STEPS) for seed in range(4)))
    saved = steps_saved([loss(2 * 400, seed) for seed in range(4)], 400, rival)
    assert (saved.share, saved.low, saved.high) == pytest.approx((0.5, 0.5, 0.5))
    assert saved.is_claim


@pytest.mark.parametrize(
    ("low", "high", "is_claim"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False), (-0.1, 0.0, False)],
)
def test_an_interval_that_holds_nothing_is_no_claim(low, high, is_claim):
    assert StepsSaved(0.1, low, high, "=", ()).is_claim is is_claim


def crossing_of(steps, losses, level):
    for index, loss in enumerate(losses):
        following = losses[index : index + 5]
        if loss <= level and statistics.fmean(following) <= level:
            before = losses[index - 1] if index else None
            if before is None or before <= level:
                return steps[index]
            return steps[index - 1] + (before - level) / (before - loss) * (steps[index] - steps[index - 1])
    return steps[-1]


def plain_interval(finals, steps, rival):
    """The same resamples, in plain Python."""
    shares = []
    for which in np.random.default_rng(0).integers(len(finals), size=(2000, len(finals))).tolist():
        mean = [statistics.fmean(rival.losses[seed][at] for seed in which) for at in range(len(rival.steps))]
        level = statistics.fmean(finals[seed] for seed in which)
        shares.append(1 - steps / crossing_of(rival.steps, mean, level))
    cuts = statistics.quantiles(shares, n=40, method="inclusive")
    return cuts[0], cuts[-1]


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_the_interval_is_that_of_a_slow_twin(seeds):
    generator = np.random.default_rng(seeds)
    losses = 8 - 0.01 * np.array(STEPS) + generator.normal(size=(seeds, 1)) + 0.3 * generator.normal(size=(seeds, 16))
    finals = (2.5 + generator.normal(size=seeds)).tolist()
    rival = Curve(STEPS, tuple(map(tuple, losses.tolist())))
    saved = steps_saved(finals, 400, rival)
    assert (saved.low, saved.high) == pytest.approx(plain_interval(finals, 400, rival))
    assert saved.low <= saved.share <= saved.high
    assert (saved.low < saved.high) is (seeds > 1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch):
    """Of an arm that is where its rival is after 600 steps, with noise of its own; a seed shifts both alike."""
    monkeypatch.setattr(savings, "_RESAMPLES", 200)
    generator, covered = np.random.default_rng(0), 0
    for _ in range(150):
        shared, own = 2 * generator.normal(size=20), 0.5 * generator.normal(size=20)
        saved = steps_saved((2 + shared + own).tolist(), 400, falling(*shared))
        covered += saved.low <= 1 / 3 <= saved.high
    assert 0.87 <= covered / 150 <= 0.99


def test_seeds_are_drawn_in_pairs():
    """Seeds that differ by much, but alike for both: the pairs leave nothing to be uncertain of."""
    saved = steps_saved([2.0, 3.0, 1.0], 400, falling(0, 1, -1))
    assert (saved.low, saved.high) == pytest.approx((1 / 3, 1 / 3))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_an_arm_that_diverged_saves_nothing(loss):
    saved = steps_saved([2.0, loss], 400, falling(0, 0))
    assert (saved.share, saved.bound) == (1 - 400 / 50, "≤")
    assert saved.seeds == ((pytest.approx(1 / 3), "="), (1 - 400 / 50, "≤"))
    assert saved.low == 1 - 400 / 50
    assert saved.high == pytest.approx(1 / 3)


def test_a_rival_that_diverged_never_gets_there():
    whole = falling(0, 0)
    rival = Curve(STEPS, (whole.losses[0], tuple(loss if loss > 5 else math.nan for loss in whole.losses[1])))
    saved = steps_saved([2.0, 2.0], 400, rival)
    assert (saved.share, saved.bound) == (0.5, "≥")


@pytest.mark.parametrize(("finals", "seeds"), [([1.0], 2), ([1.0, 2.0, 3.0], 2), ([], 0)])
def test_unequal_numbers_of_seeds(finals, seeds):
    message = f"savings: expected as many seeds of both; got {len(finals)} and {seeds}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        steps_saved(finals, 400, falling(*[0.0] * seeds))


@settings(max_examples=8)
@given(st.lists(st.floats(1, 7), min_size=2, max_size=4), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_unit_and_the_zero_of_the_loss_do_not_count(finals, unit, zero):
    rival = falling(*[0.1 * seed for seed in range(len(finals))])
    other = Curve(STEPS, tuple(tuple(unit * loss + zero for loss in row) for row in rival.losses))
    first, second = steps_saved(finals, 400, rival), steps_saved([unit * loss + zero for loss in finals], 400, other)
    assert second.share == pytest.approx(first.share, abs=1e-6)
    assert (second.low, second.high) == pytest.approx((first.low, first.high), abs=1e-6)
