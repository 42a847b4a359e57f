import re

import pytest

from ninokit.errors import ConfigError
from ninokit.training import published_horizons
from ninokit.training.plan import NowcastPlan


def steps_where(predicate, last: int) -> list[int]:
    return [step for step in range(1, last + 1) if predicate(step)]


def test_states_are_evenly_spaced_and_the_last_ends_the_period():
    plan = NowcastPlan(1000, 5, 10_000, [1])
    assert steps_where(plan.is_snapshot, 2000) == [200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000]


def test_a_period_that_the_context_does_not_divide_still_has_as_many_states():
    plan = NowcastPlan(13, 5, 100, [1])
    assert steps_where(plan.is_snapshot, 26) == [5, 7, 9, 11, 13, 18, 20, 22, 24, 26]


def test_a_period_as_short_as_the_context_takes_every_step():
    plan = NowcastPlan(5, 5, 100, [1])
    assert steps_where(plan.is_snapshot, 10) == list(range(1, 11))


def test_states_taken_so_far():
    plan = NowcastPlan(10, 5, 100, [1])
    assert [plan.states_taken(step) for step in (0, 1, 2, 3, 9, 10, 11, 12, 18)] == [0, 0, 1, 1, 4, 0, 0, 1, 4]


def test_no_nowcast_within_the_last_period_unless_asked():
    nowcasts = [step for step in range(100, 1001, 100) if NowcastPlan(100, 5, 1000, [1]).allows_nowcast(step)]
    assert nowcasts == list(range(100, 901, 100))
    assert NowcastPlan(100, 5, 1000, [1], in_last_period=True).allows_nowcast(1000)
    assert not NowcastPlan(100, 5, 950, [1]).allows_nowcast(900)
    assert not NowcastPlan(100, 5, 1000, [1], in_last_period=True).allows_nowcast(1100)


def test_the_published_schedule():
    # Knyazev et al. 2025 for 10,000 steps, period 1000 and horizon 40
    assert published_horizons(40, 10) == [40, 33, 26, 21, 16, 11, 8, 5, 3, 1]
    assert published_horizons(40, 1) == [40]
    assert published_horizons(1, 4) == [1, 1, 1, 1]


def test_horizons_follow_the_periods_and_the_last_one_stays():
    plan = NowcastPlan(10, 5, 100, [7, 4, 2])
    assert [plan.horizon(step) for step in (10, 20, 30, 40, 90)] == [7, 4, 2, 2, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((4, 5, 100, [1]), "period: expected at least 5 steps, one a state of the context, got 4"),
        ((10, 5, 0, [1]), "total_steps: expected at least 1, got 0"),
        ((10, 5, 100, []), "horizons: expected numbers from 1 up, one a nowcast, got []"),
        ((10, 5, 100, [3, 0]), "horizons: expected numbers from 1 up, one a nowcast, got [3, 0]"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        NowcastPlan(*settings)


def test_horizons_out_of_range():
    with pytest.raises(ConfigError, match=re.escape("horizons: expected max_horizon ≥ 1 and count ≥ 1, got 0 and 3")):
        published_horizons(0, 3)
