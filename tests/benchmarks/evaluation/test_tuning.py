"""The learning rate that is chosen, by hand."""

from __future__ import annotations

import pytest
from hand_made_runs import run

from ninokit.benchmarks.evaluation.results import Trial
from ninokit.benchmarks.evaluation.tuning import candidates, choose
from ninokit.benchmarks.metric import Better


def test_the_candidates_are_multiples_of_the_tasks_own_and_itself():
    assert candidates(0.006, [4, 0.25, 0.1]) == [0.0006, 0.0015, 0.006, 0.024]
    assert candidates(0.006, [1]) == [0.006]


@pytest.mark.parametrize("better", list(Better))
def test_the_fewest_steps_to_the_target(better):
    trials = [Trial(0.1, (run(200),), 0.5), Trial(0.2, (run(90),), 0.5), Trial(0.3, (run(50, False),), 0.5)]
    assert choose(trials, better).lr == 0.2


def test_the_median_of_the_seeds_counts():
    lucky = Trial(0.1, (run(10), run(300), run(300)), 0.9)
    steady = Trial(0.2, (run(100), run(200), run(600, False)), 0.8)
    assert choose([lucky, steady], Better.HIGHER).lr == 0.2


@pytest.mark.parametrize(("better", "lr"), [(Better.HIGHER, 0.2), (Better.LOWER, 0.1)])
def test_where_all_miss_it_the_best_score(better, lr):
    missed = (run(600, False),)
    trials = [Trial(0.1, missed, 0.5), Trial(0.2, missed, 0.7), Trial(0.3, missed, None)]
    assert choose(trials, better).lr == lr


def test_among_equals_the_lowest():
    assert choose([Trial(0.2, (run(50),), 0.9), Trial(0.1, (run(50),), 0.5)], Better.HIGHER).lr == 0.1
