"""The picture has the colours, marks and axes that it should; it is looked at through its pixels and its figure."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from ninokit.benchmarks.plot import plot_results
from ninokit.benchmarks.report import Results
from ninokit.errors import DependencyError

image = pytest.importorskip("matplotlib.image")

CONFIG = {"task": "tiny", "nowcaster": "linefit", "target": 0.8, "metric": "test accuracy", "better": "higher"}


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw runs; returns the pixels (height, width, 3) from 0 to 255, and the figure."""
    figures = []
    save = pytest.importorskip("matplotlib.figure").Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)

    def run(*runs, **changed):
        path = tmp_path / "curves.png"
        plot_results(Results(CONFIG | changed, {}, runs), path)
        pixels = np.rint(image.imread(path)[..., :3] * 255).astype(int)
        return pixels, figures[-1]

    return run


def _share(pixels, colour):
    return float((np.abs(pixels - colour).max(axis=-1) <= 3).mean())


BLUE, VERMILION, WHITE = (0, 114, 178), (213, 94, 0), (255, 255, 255)


def test_one_seed(draw, make_run):
    pixels, figure = draw(
        make_run("baseline", 0, [0.1, 0.5, 0.7, 0.9]), make_run("nowcasting", 0, [0.1, 0.7, 0.9, 0.9])
    )
    assert pixels.shape == (960, 1440, 3)
    assert 0.5 < _share(pixels, WHITE) < 0.98
    assert _share(pixels, BLUE) > 3e-4
    assert _share(pixels, VERMILION) > 3e-4
    assert len(figure.axes) == 4
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "linear", "linear"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "baseline",
        "nowcasting",
        "nowcast accepted",
        "target 0.8",
    ]
    assert figure.get_suptitle() == "tiny: AdamW with and without nowcasting by linefit"


def test_curves_are_the_runs(draw, make_run):
    _, figure = draw(make_run("baseline", 0, [0.1, 0.5, 0.7, 0.9], seconds_a_step=0.2))
    lines = [axes.get_lines()[0].get_xydata().tolist() for axes in figure.axes]
    losses, scores = [2 / 100, 2 / 200, 2 / 300, 2 / 400], [0.1, 0.5, 0.7, 0.9]
    steps, seconds = [100, 200, 300, 400], [20, 40, 60, 80]
    for line, x, y in zip(lines, [steps, seconds] * 2, [losses] * 2 + [scores] * 2, strict=True):
        np.testing.assert_allclose(line, np.transpose([x, y]))


def test_several_seeds_have_thin_lines_and_a_thick_median(draw, make_run):
    scores = ([0.1, 0.2], [0.1, 0.9], [0.1, 0.4])
    _, figure = draw(*(make_run("baseline", seed, values) for seed, values in enumerate(scores)))
    *thin, thick, target = figure.axes[2].get_lines()
    assert thick.get_ydata().tolist() == [0.1, 0.4]
    assert all(line.get_linewidth() < 1 < thick.get_linewidth() for line in thin)
    assert len(thin) == 3
    assert set(target.get_ydata()) == {0.8}
    assert figure.legends[0].get_texts()[0].get_text() == "baseline (median of 3 seeds)"


def test_the_median_ends_where_the_first_run_ends(draw, make_run):
    _, figure = draw(make_run("baseline", 0, [0.1, 0.9]), make_run("baseline", 1, [0.2, 0.3, 0.9]))
    first, second, thick, _ = figure.axes[2].get_lines()
    assert [len(line.get_xdata()) for line in (first, second, thick)] == [2, 3, 2]
    np.testing.assert_allclose(thick.get_ydata(), [0.15, 0.6])


def test_nowcasts_are_marked_where_they_happened_and_refused_ones_differ(draw, make_run):
    _, figure = draw(
        make_run("baseline", 0, [0.1, 0.5, 0.9]),
        make_run("nowcasting", 0, [0.1, 0.5, 0.9], seconds_a_step=0.2, refused=True),
    )
    marks = [
        {line.get_label(): (line.get_marker(), line.get_xdata()) for line in axes.get_lines()} for axes in figure.axes
    ]
    for axes, (accepted, refused) in zip(marks, [(100, 200), (20, 40)] * 2, strict=True):
        assert axes["nowcast accepted"] == ("|", [pytest.approx(accepted)])
        assert axes["nowcast refused"] == ("x", [pytest.approx(refused)])
    assert "nowcast refused" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_runs_that_never_learn_can_be_drawn(draw, make_run):
    pixels, _ = draw(make_run("baseline", 0, [0.1, 0.1]), make_run("nowcasting", 0, [0.1, 0.1]))
    assert _share(pixels, VERMILION) > 3e-4


def test_runs_that_never_change_and_lie_on_the_target_can_be_drawn(draw, make_run):
    pixels, _ = draw(make_run("baseline", 0, [0.8, 0.8]))
    assert _share(pixels, BLUE) > 3e-4


def test_losses_that_diverged_leave_a_gap(draw, make_run):
    runs = [make_run("baseline", seed, [0.1, 0.2, 0.3]) for seed in range(2)]
    diverged = tuple(
        replace(point, train_loss=loss) for point, loss in zip(runs[1].points, (1.0, math.inf, math.nan), strict=True)
    )
    pixels, figure = draw(runs[0], replace(runs[1], points=diverged))
    assert _share(pixels, BLUE) > 3e-4
    assert not np.isfinite(figure.axes[0].get_lines()[1].get_ydata()[1:]).any()


def test_a_target_that_was_never_reached_is_in_sight(draw, make_run):
    _, figure = draw(make_run("baseline", 0, [0.1, 0.2, 0.3]))
    assert figure.axes[2].get_ylim()[1] > 0.8


def test_the_score_is_named_and_a_higher_one_starts_low(draw, make_run):
    _, figure = draw(make_run("baseline", 0, [0.1] * 2 + [0.6] * 16 + [0.7] * 2))
    assert figure.axes[2].get_ylabel() == "test accuracy"
    # From 0.6, at the third of twenty evaluations, to the target of 0.8, and a twentieth of that on either side.
    assert figure.axes[2].get_ylim() == (pytest.approx(0.59), pytest.approx(0.81))


def test_a_lower_score_starts_high(draw, make_run):
    run = make_run("baseline", 0, [4.0] * 2 + [2.8] * 16 + [1.6] * 2)
    _, figure = draw(run, metric="validation loss (nats)", better="lower", target=1.8)
    assert figure.axes[2].get_ylabel() == "validation loss (nats)"
    assert figure.axes[2].get_ylim() == (pytest.approx(1.54), pytest.approx(2.86))
    _, figure = draw(run, metric="validation loss (nats)", better="lower", target=0.8)
    assert figure.axes[2].get_ylim() == (pytest.approx(0.7), pytest.approx(2.9))


def test_scores_that_diverged_leave_the_axis_to_the_others(draw, make_run):
    runs = [make_run("baseline", 0, [math.inf, math.nan]), make_run("baseline", 1, [3.0, 2.0])]
    _, figure = draw(*runs, better="lower", target=1.0)
    assert figure.axes[2].get_ylim() == (pytest.approx(0.9), pytest.approx(3.1))


def test_without_matplotlib_the_error_says_what_to_install(make_run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    results = Results(CONFIG, {}, (make_run("baseline", 0, [0.1]),))
    with pytest.raises(
        DependencyError,
        match=r"^the picture of a comparison needs the package \'matplotlib\'.*"
        r'pip install "ninokit\[benchmarks\]"$',
    ):
        plot_results(results, tmp_path / "curves.png")
