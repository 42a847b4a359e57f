"""A figure is drawn on any machine; it is looked at through its pixels."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ninokit.benchmarks.plot import COLOURS, new_figure
from ninokit.errors import DependencyError

matplotlib = pytest.importorskip("matplotlib")
image = pytest.importorskip("matplotlib.image")


def test_a_figure_is_saved_whatever_backend_was_chosen(tmp_path):
    with matplotlib.rc_context({"backend": "module://not_there"}):
        figure = new_figure(figsize=(3, 2))
        figure.subplots().plot([0, 1], [0, 1], color=COLOURS[0])
        figure.savefig(tmp_path / "line.png")
    pixels = np.rint(image.imread(tmp_path / "line.png")[..., :3] * 255)
    assert pixels.shape == (240, 360, 3)  # 120 dots an inch
    assert (pixels[0, 0] == 255).all()
    assert (np.abs(pixels - (0, 114, 178)).max(axis=-1) <= 3).any()


def test_labels_do_not_leave_the_picture():
    figure = new_figure(figsize=(3, 2))
    panel = figure.subplots()
    panel.set_ylabel("a label")
    figure.canvas.draw()
    assert panel.yaxis.label.get_window_extent().x0 >= 0


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        DependencyError,
        match=r'^a picture of measurements needs the package \'matplotlib\'.*pip install "ninokit\[benchmarks\]"$',
    ):
        new_figure(figsize=(3, 2))
