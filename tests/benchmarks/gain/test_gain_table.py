"""The means, their intervals, the tables for people, and the file."""

import dataclasses
import itertools

import numpy as np
import pytest

from ninokit.benchmarks.gain.plot import plot_gain
from ninokit.benchmarks.gain.table import GainRow, GainTable, MeanGain, read_gain, write_gain
from ninokit.errors import ConfigError


def row(gained, bound="=", *, nowcaster="linefit", inputs="states", horizon=2, time=200, rate=1.0, earlier=False):
    return GainRow(
        rate=rate,
        seed=0,
        earlier=earlier,
        time=time,
        nowcaster=nowcaster,
        inputs=inputs,
        horizon=horizon,
        loss=None if gained is None else 0.5,
        gained=gained,
        bound=None if gained is None else bound,
        reason="not finite" if gained is None else "",
    )


def none(gained, **kind):
    return row(gained, nowcaster="no jump", inputs=None, horizon=None, **kind)


@pytest.fixture
def table():
    rows = [
        *(none(gained, time=time) for gained, time in ((-20.0, 200), (10.0, 400))),
        *(row(gained, time=time) for gained, time in ((100.0, 200), (140.0, 400))),
        *(row(gained, horizon=5, time=time) for gained, time in ((None, 200), (-30.0, 400))),
        *(row(None, inputs="means", time=time) for time in (200, 400)),
        row(200.0, "≥", inputs="means", horizon=5, time=200),
        row(300.0, inputs="means", horizon=5, time=400),
        *(none(4.4, earlier=True, time=time) for time in (200, 400)),
        row(-400.0, "≤", earlier=True, time=200),
        row(900.0, "≥", earlier=True, time=400),
        row(60.0, earlier=True, horizon=5, time=200),
    ]
    return GainTable("tiny", 200, 100, (2, 5), tuple(rows))


def test_the_interval_is_that_of_all_resamples():
    """Of three trials there are 27 equally likely resamples."""
    gains = (10.0, 20.0, 90.0)
    mean = MeanGain.of([row(gained) for gained in gains])

    means = sorted(np.mean(each) for each in itertools.product(gains, repeat=3))
    assert (mean.mean, mean.trials, mean.refused, mean.bound) == (40.0, 3, 0, "=")
    assert mean.low == pytest.approx(means[0])  # of a probability of 1 / 27, above 2.5 %
    assert mean.high == pytest.approx(means[-1])


def test_the_interval_of_many_is_that_of_the_normal_distribution():
    gains = np.random.default_rng(1).normal(50, 20, size=400)
    mean = MeanGain.of([row(gained) for gained in gains])

    half = 1.96 * gains.std() / 20
    assert mean.low == pytest.approx(gains.mean() - half, abs=0.15)
    assert mean.high == pytest.approx(gains.mean() + half, abs=0.15)


def test_refused_trials_are_counted_and_left_out():
    assert MeanGain.of([row(None), row(8.0), row(None)]) == MeanGain(8.0, 8.0, 8.0, "=", trials=1, refused=2)
    assert MeanGain.of([row(None)]) is None
    assert MeanGain.of([]) is None


@pytest.mark.parametrize(
    ("bounds", "expected"), [("==", "="), ("=≥", "≥"), ("≤=", "≤"), ("≥≥", "≥"), ("≤≥", "?")], ids=str
)
def test_a_bound_makes_the_mean_a_bound(bounds, expected):
    assert MeanGain.of([row(1.0, bound) for bound in bounds]).bound == expected


def test_the_tables_for_people(table):
    assert (
        table.to_markdown()
        == """\
# tiny: steps gained by a jump

After a jump and 100 steps: how much later the training without any jump has the same averaged validation loss. \
Mean over the times 200, 400 and the seeds 0; in brackets the mean difference from the trial without a jump, ± half of \
its bootstrapped 95 % interval. The period is 200 steps; horizons are in states.

## Learning rate × 1, no earlier jumps

No jump: -5 ± 15.

| nowcaster |   from |     horizon 2 |             horizon 5 |
| --------: | -----: | ------------: | --------------------: |
|   linefit | states | 120 (125 ± 5) | -30 (-40) (1 refused) |
|   linefit |  means | – (2 refused) |       ≥250 (255 ± 35) |

## Learning rate × 1, after earlier jumps

No jump: 4 ± 0.

| nowcaster |   from | horizon 2 | horizon 5 |
| --------: | -----: | --------: | --------: |
|   linefit | states |         – |   60 (56) |
|   linefit |  means |         – |         – |
"""
    )


def test_the_mean_of_one_kind(table):
    kind = {"nowcaster": "linefit", "inputs": "states", "horizon": 2}

    assert table.mean(rate=1.0, earlier=False, **kind).mean == 120.0
    assert table.mean(rate=0.5, earlier=False, **kind) is None
    assert [each.gained for each in table.trials(rate=1.0, earlier=True, **kind)] == [-400.0, 900.0]
    assert table.no_jump(1.0, False).mean == -5.0
    more = table.over_no_jump(rate=1.0, earlier=False, **kind)
    assert (more.mean, more.low, more.high, more.trials) == (125.0, 120.0, 130.0, 2)


def test_the_file_comes_back_as_it_was(table, tmp_path):
    write_gain(table, tmp_path / "gain.json")

    assert read_gain(tmp_path / "gain.json") == table


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "gain.json"
    path.write_text("[]")

    with pytest.raises(ConfigError, match=r"gain.json: expected the gain.json that `ninokit gain` wrote; got Valid"):
        read_gain(path)
    with pytest.raises(ConfigError, match=r"got FileNotFoundError"):
        read_gain(tmp_path / "none.json")


def drawn(table, path, monkeypatch):
    """The figure, as it was when it was saved."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs)
    )
    plot_gain(table, path)
    return figures[0]


def test_the_picture_has_a_panel_a_table(table, tmp_path, monkeypatch):
    wide = dataclasses.replace(table, rows=(*table.rows, none(3.0, rate=2.0), row(12.0, rate=2.0)))
    figure = drawn(wide, tmp_path / "gain.png", monkeypatch)

    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")
    assert [panel.get_title() for panel in figure.axes] == [
        "learning rate × 1, no earlier jumps",
        "learning rate × 1, after earlier jumps",
        "learning rate × 2, no earlier jumps",
        "learning rate × 2, after earlier jumps",
    ]
    first = figure.axes[0]
    lines = {line.get_label(): line for line in first.lines}
    assert list(lines["linefit, states"].get_xdata()) == [2, 5]
    assert list(lines["linefit, states"].get_ydata()) == [120.0, -30.0]
    assert list(lines["linefit, means"].get_xdata()) == [5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "no jump",
        "linefit, states",
        "linefit, means",
    ]
    assert first.get_ylabel() == "steps gained (mean, 95 % interval)"
    assert figure.axes[2].get_xlabel() == "horizon (states)"


def test_great_losses_leave_the_panel(tmp_path, monkeypatch):
    rows = (none(1.0), row(40.0), row(-5000.0, horizon=5))
    figure = drawn(GainTable("tiny", 200, 100, (2, 5), rows), tmp_path / "gain.png", monkeypatch)

    low, high = figure.axes[0].get_ylim()
    assert low == pytest.approx(-max(high, 150))
    assert high > 40
