"""Savings computed by hand, targets that were never reached included."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninokit.benchmarks.metric import Better
from ninokit.benchmarks.summary import Cost, Row, Saving, format_table, median_saving
from ninokit.benchmarks.summary import summarize as summarize_either
from ninokit.benchmarks.training import RunRecord


def summarize(runs: list[RunRecord], target: float) -> tuple[Row, ...]:
    return summarize_either(runs, target, Better.HIGHER)


def test_costs_and_savings_of_one_seed(make_run):
    baseline = make_run("baseline", 7, [0.1, 0.5, 0.8, 0.9])
    nowcasting = make_run("nowcasting", 7, [0.1, 0.85, 0.7, 0.9], seconds_a_step=0.6)
    (row,) = summarize([baseline, nowcasting], 0.8)
    assert row.label == "7"
    assert (row.baseline_steps, row.nowcasting_steps) == (Cost(300, True), Cost(200, True))
    assert row.steps_saved == Saving(pytest.approx(1 / 3), "=")
    assert (row.baseline_seconds, row.nowcasting_seconds) == (Cost(150.0, True), Cost(120.0, True))
    assert row.seconds_saved == Saving(pytest.approx(0.2), "=")


def test_the_target_is_reached_when_it_is_met_exactly(make_run):
    (row,) = summarize([make_run("baseline", 0, [0.5, 0.75, 0.8])], 0.75)
    assert row.baseline_steps == Cost(200, True)


def test_lower_scores_can_be_the_better_ones(make_run):
    runs = [make_run("baseline", 0, [3.0, 2.5, 1.8, 1.5]), make_run("nowcasting", 0, [3.0, 2.1, 1.9, 1.81])]
    (row,) = summarize_either(runs, 1.8, Better.LOWER)
    assert (row.baseline_steps, row.nowcasting_steps) == (Cost(300, True), Cost(400, False))
    assert row.steps_saved == Saving(pytest.approx(-1 / 3), "≤")


@pytest.mark.parametrize("better", list(Better))
def test_a_score_that_diverged_reaches_no_target(make_run, better):
    (row,) = summarize_either([make_run("baseline", 0, [float("nan"), float("nan")])], 1.8, better)
    assert row.baseline_steps == Cost(200, False)


def test_a_baseline_that_missed_gives_a_lower_bound(make_run):
    (row,) = summarize(
        [make_run("baseline", 0, [0.1, 0.2, 0.3, 0.4]), make_run("nowcasting", 0, [0.1, 0.9, 0.9, 0.9])], 0.8
    )
    assert row.baseline_steps == Cost(400, False)
    assert row.steps_saved == Saving(0.5, "≥")


def test_nowcasting_that_missed_gives_an_upper_bound(make_run):
    (row,) = summarize(
        [make_run("baseline", 0, [0.1, 0.9, 0.9, 0.9]), make_run("nowcasting", 0, [0.1, 0.2, 0.3, 0.4])], 0.8
    )
    assert row.steps_saved == Saving(-1.0, "≤")


def test_two_that_missed_tell_nothing(make_run):
    (row,) = summarize([make_run("baseline", 0, [0.1]), make_run("nowcasting", 0, [0.1])], 0.8)
    assert row.steps_saved is None
    assert row.seconds_saved is None


def test_a_seed_without_its_nowcasting_run_has_no_saving_and_there_is_no_median(make_run):
    runs = [
        make_run("baseline", 0, [0.9]),
        make_run("nowcasting", 0, [0.9]),
        make_run("baseline", 1, [0.9]),
    ]
    rows = summarize(runs, 0.8)
    assert [row.label for row in rows] == ["0", "1"]
    assert rows[1].nowcasting_steps is None
    assert rows[1].steps_saved is None


def test_median_over_seeds_that_reached(make_run):
    late, middle, early = [0.0, 0.0, 0.9], [0.0, 0.9, 0.9], [0.9, 0.9, 0.9]
    runs = [make_run("baseline", seed, scores) for seed, scores in enumerate([late, early, late])]
    runs += [make_run("nowcasting", seed, scores) for seed, scores in enumerate([early, early, middle])]
    median = summarize(runs, 0.8)[-1]
    assert median.label == "median"
    assert (median.baseline_steps, median.nowcasting_steps) == (Cost(300, True), Cost(100, True))


def test_the_median_saving_is_that_of_the_seeds(make_run):
    # 21, -3 and 11 %; the median costs alone, 16 and 16.5, would say -3 %.
    baseline, nowcasting = [43, 32, 27], [34, 33, 24]
    runs = [make_run("baseline", s, [0.0] * (n - 1) + [0.9]) for s, n in enumerate(baseline)]
    runs += [make_run("nowcasting", s, [0.0] * (n - 1) + [0.9]) for s, n in enumerate(nowcasting)]
    assert summarize(runs, 0.8)[-1].steps_saved == Saving(pytest.approx(1 / 9), "=")


@pytest.mark.parametrize(
    ("savings", "median"),
    [
        ([(0.1, "="), (0.3, "="), (0.2, "=")], Saving(0.2, "=")),
        ([(0.1, "="), (0.3, "=")], Saving(0.2, "=")),
        ([(0.1, "="), (0.3, "="), (0.2, "≥")], Saving(0.2, "≥")),
        ([(0.1, "="), (0.3, "="), (0.4, "≥")], Saving(0.3, "=")),
        ([(0.1, "="), (0.3, "="), (0.0, "≤")], Saving(0.1, "=")),
        ([(0.1, "="), (0.3, "≤"), (0.2, "≤")], Saving(0.2, "≤")),
        ([(0.1, "="), (0.3, "="), None], Saving(0.1, "≥")),
        ([(0.1, "="), (0.3, "≤"), None], Saving(0.3, "≤")),
        ([(0.1, "="), None, None], None),
        ([None], None),
    ],
)
def test_median_of_savings_known_by_bounds(savings, median):
    found = median_saving([None if saving is None else Saving(*saving) for saving in savings])
    assert found == (median and Saving(pytest.approx(median.share), median.bound))


@given(st.lists(st.tuples(st.floats(-3, 1), st.sampled_from("=≥≤"), st.floats(0, 2)), min_size=1, max_size=7))
def test_a_median_of_bounds_holds_for_the_true_savings(savings):
    """Drawn are bounds, and how far beyond them the truth is."""
    sign = {"=": 0, "≥": 1, "≤": -1}
    truth = statistics.median(min(share + sign[bound] * by, 1.0) for share, bound, by in savings)
    found = median_saving([Saving(share, bound) for share, bound, _ in savings])
    if found is not None:
        assert {"=": truth == found.share, "≥": truth >= found.share, "≤": truth <= found.share}[found.bound]


def test_one_of_three_that_missed_leaves_the_median_known(make_run):
    never = [0.0, 0.0, 0.0, 0.0]
    runs = [make_run("baseline", s, scores) for s, scores in enumerate([never, [0.9] * 4, [0.0, 0.9, 0.9, 0.9]])]
    runs += [make_run("nowcasting", s, [0.9] * 4) for s in range(3)]
    assert summarize(runs, 0.8)[-1].baseline_steps == Cost(200, True)


def test_the_median_of_one_that_reached_and_one_that_missed_is_only_bounded(make_run):
    # The true costs are 200 and something above 400, so the median is above 300, and not above 400.
    runs = [make_run("baseline", s, scores) for s, scores in enumerate([[0.0, 0.9, 0.9, 0.9], [0.0] * 4])]
    runs += [make_run("nowcasting", s, [0.9] * 4) for s in range(2)]
    median = summarize(runs, 0.8)[-1]
    assert median.baseline_steps == Cost(300.0, False)
    # The seeds saved 1/2 and at least 3/4.
    assert median.steps_saved == Saving(pytest.approx(5 / 8), "≥")


def test_table(make_run):
    runs = [
        make_run("baseline", 0, [0.1] * 100),
        make_run("nowcasting", 0, [0.1] * 46 + [0.9] * 54),
        make_run("baseline", 1, [0.1] * 11 + [0.9] * 89),
        make_run("nowcasting", 1, [0.1] * 100),
    ]
    assert format_table(summarize(runs, 0.8)) == (
        "|   seed | baseline steps | nowcasting steps |   saved | baseline s | nowcasting s |   saved |\n"
        "| -----: | -------------: | ---------------: | ------: | ---------: | -----------: | ------: |\n"
        "|      0 |         >10000 |             4700 |   ≥53 %% |    >5000.0 |       2350.0 |   ≥53 %% |\n"
        "|      1 |           1200 |           >10000 | ≤-733 %% |      600.0 |      >5000.0 | ≤-733 %% |\n"
        "| median |          >5600 |            >7350 | ≤-316 %% |    >2800.0 |      >3675.0 | ≤-316 %% |"
    ).replace("%%", "%")


@pytest.mark.parametrize(
    ("total", "reached_at", "shown"),
    # 53.5 % is at least 53 %; and 29 % is at least 29 %, though 100·(1 - 71/100) is below 29 in binary fractions.
    [(100, 47, "≥53 %"), (1000, 465, "≥53 %"), (100, 71, "≥29 %")],
)
def test_a_lower_bound_is_rounded_down(make_run, total, reached_at, shown):
    runs = [
        make_run("baseline", 0, [0.1] * total),
        make_run("nowcasting", 0, [0.1] * (reached_at - 1) + [0.9] * (total - reached_at + 1)),
    ]
    assert f" {shown} |" in format_table(summarize(runs, 0.8))


def test_a_run_on_its_way_is_shown_as_a_dash(make_run):
    assert format_table(summarize([make_run("baseline", 0, [0.9])], 0.8)).splitlines()[-1].count("–") == 4
