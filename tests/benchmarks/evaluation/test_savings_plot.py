"""The picture of the savings, through its figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ninokit.benchmarks.evaluation.plot import plot_savings

pytest.importorskip("matplotlib")


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws an evaluation; gives the figure."""
    figures = []
    save = pytest.importorskip("matplotlib.figure").Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    def drawn(evaluation):
        plot_savings(evaluation, tmp_path / "savings.png")
        assert (tmp_path / "savings.png").stat().st_size > 10_000
        return figures[-1]

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)
    return drawn


@pytest.fixture
def panels(draw, evaluation):
    return draw(evaluation).axes


def marks(panel, colour):
    return [
        (line.get_marker(), round(float(line.get_ydata()[0]), 6))
        for line in panel.get_lines()
        if line.get_color() == colour and len(line.get_ydata()) == 1
    ]


def test_seeds_and_medians_with_their_bounds(panels):
    steps, seconds = panels
    tuned = [("o", 20), ("o", 20), ("v", -50), ("o", 20), *[("x", 0)] * 4]
    mine = [("o", 50), ("o", 25), ("v", -50), ("o", 25), ("^", 50), ("^", 25), ("^", 0), ("^", 25)]
    for panel in (steps, seconds):
        assert marks(panel, "#D55E00") == tuned
        assert marks(panel, "#009E73") == mine


def test_it_names_what_it_shows(panels):
    steps, seconds = panels
    assert (steps.get_ylabel(), seconds.get_ylabel()) == ("steps saved (%)", "seconds saved (%)")
    assert [label.get_text() for label in seconds.get_xticklabels()] == ["first", "second"]
    legend = [text.get_text() for text in steps.figure.legends[0].get_texts()]
    assert legend == ["AdamW tuned", "mine_h8.test"]


def test_the_legend_of_many_methods_is_whole(draw, evaluation):
    task = evaluation.tasks[0]
    more = [replace(task.methods[-1], name=f"nino_h128.published_{number}") for number in range(5)]
    figure = draw(replace(evaluation, tasks=(replace(task, methods=(*task.methods, *more)),)))
    extent = figure.legends[0].get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width
