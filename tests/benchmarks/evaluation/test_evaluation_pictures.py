"""The pictures of an evaluation, looked at through their axes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ninokit.benchmarks.evaluation.plot import plot_savings, plot_task
from ninokit.benchmarks.evaluation.results import Evaluation
from ninokit.benchmarks.evaluation.savings import Curve

image = pytest.importorskip("matplotlib.image")


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw by a function of an object and a path; returns the figure."""
    figures = []
    save = pytest.importorskip("matplotlib.figure").Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)

    def run(plot, what):
        path = tmp_path / "picture.png"
        plot(what, path)
        assert image.imread(path)[..., :3].std() > 0.02
        return figures[-1]

    return run


def lines_of(panel, marker):
    return [line for line in panel.get_lines() if line.get_marker() == marker]


def texts(panel):
    return [text.get_text() for text in panel.texts]


def test_a_panel_a_task_and_a_row_an_arm_but_the_rival(draw, evaluation):
    first, second = draw(plot_savings, evaluation).axes
    assert [panel.get_title(loc="left") for panel in (first, second)] == [
        "first, against adamw",
        "second, against muon",
    ]
    assert [label.get_text() for label in first.get_yticklabels()] == ["muon", "linefit"]
    assert [label.get_text() for label in second.get_yticklabels()] == ["adamw"]
    assert texts(first) == ["20 % [20, 20]", "50 % [50, 50]"]
    assert texts(second) == ["-26 % [-26, -26]"]
    assert second.get_xlabel().startswith("steps saved (%)")
    assert first.get_xlim() == second.get_xlim()


def test_seeds_their_mean_and_its_interval(draw, make):
    reference = make.arm("adamw", [[4.5, 4, 3.5, 3, 2.5, 2, 1.5, 1], [3.5, 3, 2.5, 2, 1.5, 1, 0.5, 0]])
    arm = make.arm("line", [[4, 3, 2.5, 1.5], [3, 2, 1, 1.5]])
    task = make.task([reference, arm])
    saved = task.saved("line", "adamw")
    (panel,) = draw(plot_savings, Evaluation({}, (task,))).axes
    zero, *seeds, bar, mean = panel.get_lines()
    assert list(zero.get_xdata()) == [0, 0]
    assert [line.get_xdata()[0] for line in seeds] == pytest.approx([100 * (1 - 4 / 7), 100 * (1 - 4 / 5)])
    assert [line.get_ydata()[0] for line in seeds] == [-0.25, 0.25]
    assert list(bar.get_xdata()) == pytest.approx([100 * saved.low, 100 * saved.high])
    assert (mean.get_xdata()[0], mean.get_ydata()[0]) == (pytest.approx(100 * (1 - 4 / 6)), 0)
    assert {line.get_marker() for line in (*seeds, mean)} == {"o"}
    assert len({line.get_color() for line in (*seeds, bar, mean)}) == 1


def test_bounds_have_marks_of_their_own(draw, make):
    reference = make.arm("adamw", [[4.0 - 0.5 * k for k in range(8)]])
    arms = [make.arm("beyond", [[3, 2, 1, 0.1]]), make.arm("before", [[5, 5, 5, 5]])]
    (panel,) = draw(plot_savings, Evaluation({}, (make.task([reference, *arms]),))).axes
    assert [line.get_xdata()[0] for line in lines_of(panel, "^")] == [50, 50]
    assert [line.get_xdata()[0] for line in lines_of(panel, "v")] == [-100, -100]  # of -300
    assert texts(panel) == ["≥50 % [50, 50]", "≤-300 % [-300, -300]"]
    assert {line.get_ydata()[0] for line in lines_of(panel, "^")} == {0}


def test_the_rival_alone(draw, make):
    task = make.task([make.arm("adamw", [[4.0 - 0.5 * k for k in range(8)]])])
    (panel,) = draw(plot_savings, Evaluation({}, (task,))).axes
    assert len(panel.get_yticklabels()) == 0


def test_an_arm_keeps_its_colour_in_all_panels(draw, evaluation):
    first, second = evaluation.tasks
    figure = draw(plot_savings, replace(evaluation, tasks=(first, replace(second, rival="adamw"))))
    (muon, _), (again,) = (
        [line.get_color() for line in panel.get_lines() if line.get_markersize() == 9] for panel in figure.axes
    )
    assert muon == again


def test_curves_marks_and_jumps(draw, evaluation):
    (panel,) = draw(plot_task, evaluation.tasks[0]).axes
    handles, labels = panel.get_legend_handles_labels()
    assert labels == ["adamw", "muon (trained weights)  saves 20 % [20, 20]", "linefit  saves 50 % [50, 50]"]
    np.testing.assert_allclose(handles[0].get_xydata(), [[100, 4], [200, 3.5], [300, 3], [400, 2.5]])
    np.testing.assert_allclose(handles[2].get_xydata(), [[100, 3.5], [200, 2.5], [300, 1.5], [400, 0.5]])
    marks = {tuple(line.get_xydata()[0]): line.get_color() for line in lines_of(panel, "o")}
    expected = [(400, 2.5), (300 + 100 / 6, 2.5), (200, 2.5)]  # where each stays below what AdamW ends with
    np.testing.assert_allclose(list(marks), expected)
    assert list(marks.values()) == [handle.get_color() for handle in handles]
    (jumps,) = lines_of(panel, "|")
    assert (list(jumps.get_xdata()), jumps.get_color()) == ([100, 200], handles[2].get_color())
    assert jumps.get_linestyle() == "None"
    assert texts(panel) == ["adamw after 400 steps: 2.5000"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("optimizer steps", "test loss (nats)")
    assert panel.get_title() == "first: test loss, the mean of 2 seeds; bars at the bottom are jumps"
    low, high = panel.get_ylim()
    assert low < 0.5
    assert 4 <= high < 5
    assert panel.get_xlim()[0] == 0


def test_no_mark_where_an_arm_gets_there_later_or_never(draw, make):
    falling = [5 - 0.5 * k for k in range(8)]
    arms = [make.arm("adamw", [[4, 3.5, 3, 2.5, 2]]), make.arm("late", [falling]), make.arm("never", [falling[:4]])]
    (panel,) = draw(plot_task, make.task(arms)).axes
    assert [list(line.get_xdata()) for line in lines_of(panel, "o")] == [[400]]


def test_a_band_is_the_standard_error_of_the_differences_from_adamw(draw, evaluation):
    first = evaluation.tasks[0]
    adamw, muon, line = first.arms
    losses = ((4.0, 3, 2, 1), (3.0, 3, 2, 1))  # AdamW's first seed is 0.2 above its second
    (panel,) = draw(
        plot_task, replace(first, arms=(adamw, muon, replace(line, curve=Curve(line.curve.steps, losses))))
    ).axes
    _, band = panel.collections
    # The differences at 100 steps are -0.1 and -0.9, so that their mean is known to 0.4; later 0.2 apart, to 0.1.
    ends = band.get_paths()[0].vertices
    assert {round(y, 6) for x, y in ends if x == 100} == {3.1, 3.9}
    assert {round(y, 6) for x, y in ends if x == 400} == {0.9, 1.1}
    # The seeds of `muon` differ as AdamW's do.
    assert np.ptp(panel.collections[0].get_paths()[0].vertices[:, 1]) == pytest.approx(1.8)


def test_one_seed(draw, make):
    arms = [make.arm("adamw", [[4, 3, 2, 1, 0.5]]), make.arm("muon", [[3, 2, 1, 0.9]])]
    (panel,) = draw(plot_task, make.task(arms)).axes
    assert len(panel.collections) == 0
    assert panel.get_title() == "first: test loss, one seed"
    draw(plot_savings, Evaluation({}, (make.task(arms),)))


@pytest.mark.parametrize("diverged", [["muon"], ["adamw"], ["adamw", "muon", "linefit"]])
def test_diverged_arms(draw, evaluation, diverged):
    def lost(arm):
        losses = tuple((*row[:2], *[math.nan] * (len(row) - 2)) for row in arm.curve.losses)
        nothing = {400: (math.nan, math.nan)}
        return replace(arm, curve=replace(arm.curve, losses=losses), averaged=nothing, raw=nothing)

    first = evaluation.tasks[0]
    task = replace(first, arms=tuple(lost(arm) if arm.name in diverged else arm for arm in first.arms))
    (panel,) = draw(plot_task, task).axes
    assert len(panel.get_legend().get_texts()) == 3
    assert np.isfinite(panel.get_ylim()).all()
    assert len(texts(panel)) == ("adamw" not in diverged)
    (savings,) = draw(plot_savings, Evaluation({}, (task,))).axes
    assert np.isfinite(savings.get_xlim()).all()


def test_all_is_lost_from_the_start(draw, make):
    (panel,) = draw(plot_task, make.task([make.arm("adamw", [[math.nan] * 5, [math.nan] * 5])])).axes
    assert panel.get_xlabel() == "optimizer steps"


def test_arms_of_one_colour_have_another_line(draw, make):
    arms = [make.arm("adamw", [[4, 3, 2, 1, 0.5]]), *(make.arm(f"arm{k}", [[4, 3, 2, 1 - k / 20]]) for k in range(9))]
    (panel,) = draw(plot_task, make.task(arms)).axes
    handles, _ = panel.get_legend_handles_labels()
    assert len({(handle.get_color(), handle.get_linestyle()) for handle in handles}) == 10


def test_trainings_of_their_own_have_points(draw, make):
    arms = [make.arm("adamw", [[4, 3, 2, 1, 0.5]]), make.arm("decay", [[4, 3, 2, 1]])]
    arms[1] = replace(arms[1], curve=Curve((100, 200, 400, 800), ((4.0, 3.0, 1.0, 0.5),)))
    (panel,) = draw(plot_task, make.task(arms)).axes
    handles, _ = panel.get_legend_handles_labels()
    assert [handle.get_marker() for handle in handles] == ["", "."]
    assert list(handles[1].get_xdata()) == [100, 200, 400]


def test_unsuited_arms_are_in_neither_picture(draw, evaluation):
    second = evaluation.tasks[1]
    (panel,) = draw(plot_task, second).axes
    assert [text.get_text().split()[0] for text in panel.get_legend().get_texts()] == ["adamw", "muon"]
    assert panel.get_title() == "second: test loss, the mean of 2 seeds"
