"""Tuning: the grid, the best, the widening at its edges, and the option at the best rate."""

from __future__ import annotations

import math

import pytest

from ninokit.benchmarks.arms import Arm, Option
from ninokit.benchmarks.evaluation.tuning import Setting, Trial, Tuned, tuning

FACTORS = [0.25, 0.5, 1, 2, 4]
PLAIN = Arm(name="plain", description="", begin=None)
WITH_OPTION = Arm(name="with", description="", begin=None, option=Option("k", default=5, values=(1, 5, 25)))


def work(arm, score, lr=0.01, factors=FACTORS):
    """Tune by a function of a setting, for the loss at the averaged weights, or for both; lists what was asked."""
    generator, asked, answers = tuning(arm, lr, factors), [], None
    while True:
        try:
            settings = next(generator) if answers is None else generator.send(answers)
        except StopIteration as done:
            return done.value, asked
        asked.append([(setting.lr, setting.option) for setting in settings])
        scores = [score(setting) for setting in settings]
        pairs = [s if isinstance(s, tuple) else (s, s + 1) for s in scores]
        answers = [Trial(setting, *pair) for setting, pair in zip(settings, pairs, strict=True)]


def best_at(rate):
    return lambda setting: abs(math.log(setting.lr / rate))


GRID = [(0.0025, None), (0.005, None), (0.01, None), (0.02, None), (0.04, None)]


def test_the_grid_and_its_best():
    tuned, asked = work(PLAIN, best_at(0.02))
    assert asked == [GRID]
    assert tuned.setting == Setting(0.02, None)
    assert [(trial.setting.lr, trial.setting.option) for trial in tuned.trials] == GRID
    assert (tuned.read_out, tuned.at_edge) == ("averaged", False)


def test_the_order_and_repetitions_of_the_factors_do_not_count():
    assert work(PLAIN, best_at(0.02), factors=[4, 1, 1.0000001, 0.5, 2, 0.25]) == work(PLAIN, best_at(0.02))


def test_rates_have_four_digits():
    assert work(PLAIN, best_at(0.01), lr=1 / 3, factors=[1.0])[1] == [[(0.3333, None)]]


@pytest.mark.parametrize(
    ("best", "beyond", "at_edge"),
    [
        (0.08, [0.08, 0.16], False),
        (0.16, [0.08, 0.16, 0.32], False),
        (0.32, [0.08, 0.16, 0.32], True),
        (9.0, [0.08, 0.16, 0.32], True),
        (0.00125, [0.00125, 0.000625], False),
        (0.0003125, [0.00125, 0.000625, 0.0003125], True),
        (1e-9, [0.00125, 0.000625, 0.0003125], True),
        (0.04, [0.08], False),
        (0.0025, [0.00125], False),
    ],
)
def test_widening(best, beyond, at_edge):
    tuned, asked = work(PLAIN, best_at(best))
    assert asked == [GRID, *([(rate, None)] for rate in beyond)]
    assert tuned.at_edge is at_edge
    assert tuned.setting == min((trial.setting for trial in tuned.trials), key=best_at(best))


def test_options_are_tried_at_the_best_rate():
    def score(setting):
        return best_at(0.02)(setting) + abs(setting.option - 25)

    tuned, asked = work(WITH_OPTION, score)
    assert asked == [[(rate, 5) for rate, _ in GRID], [(0.02, 1), (0.02, 25)]]
    assert tuned.setting == Setting(0.02, 25)


def test_the_default_stays_if_the_others_are_no_better():
    tuned, _ = work(WITH_OPTION, best_at(0.02))
    assert tuned.setting == Setting(0.02, 5)


def test_options_come_after_the_widening():
    tuned, asked = work(WITH_OPTION, best_at(9.0))
    assert asked[1:] == [[(0.08, 5)], [(0.16, 5)], [(0.32, 5)], [(0.32, 1), (0.32, 25)]]
    assert tuned.at_edge


def test_one_rate_alone_is_not_widened():
    tuned, asked = work(WITH_OPTION, best_at(9.0), factors=[1])
    assert asked == [[(0.01, 5)], [(0.01, 1), (0.01, 25)]]
    assert not tuned.at_edge


@pytest.mark.parametrize(
    ("averaged", "raw", "read_out", "score"),
    [
        (1.0, 2.0, "averaged", 1.0),
        (2.0, 1.0, "raw", 1.0),
        (1.0, 1.0, "averaged", 1.0),
        (math.nan, 1.0, "raw", 1.0),
        (1.0, math.inf, "averaged", 1.0),
        (math.nan, math.inf, "averaged", math.inf),
        (-math.inf, 3.0, "raw", 3.0),
    ],
)
def test_the_better_read_out_is_scored(averaged, raw, read_out, score):
    trial = Trial(Setting(0.1, None), averaged, raw)
    assert (trial.read_out, trial.score) == (read_out, score)


def test_the_read_out_is_that_of_the_best_trial():
    tuned, _ = work(PLAIN, lambda setting: (9.0, 1.0) if setting.lr == 0.005 else (2.0, 3.0))
    assert (tuned.setting.lr, tuned.read_out) == (0.005, "raw")


@pytest.mark.parametrize("nothing", [math.nan, math.inf])
def test_diverged_trials_lose(nothing):
    tuned, asked = work(PLAIN, lambda setting: nothing if setting.lr > 0.006 else best_at(1.0)(setting))
    assert asked == [GRID]
    assert tuned.setting.lr == 0.005


def test_where_all_diverged_smaller_rates_are_tried():
    tuned, asked = work(PLAIN, lambda setting: (math.nan, math.nan) if setting.lr > 0.0007 else (1.0, 2.0))
    assert asked[1:] == [[(0.00125, None)], [(0.000625, None)], [(0.0003125, None)]]
    assert (tuned.setting.lr, tuned.at_edge) == (0.000625, False)
    tuned, _ = work(PLAIN, lambda setting: (math.nan, math.nan))
    assert isinstance(tuned, Tuned)
    assert tuned.at_edge


def test_of_equals_the_first_wins():
    assert work(PLAIN, lambda setting: 1.0, factors=[1, 2])[0].setting.lr == 0.01
