"""A store needs zarr, which is for Python 3.11 and later."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_ignore_collect() -> bool | None:
    return True if importlib.util.find_spec("zarr") is None else None


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "trajectories"


@pytest.fixture
def tiny_store(store_path, monkeypatch):
    """A store of tiny networks, made by `tiny_trainings.make_store`: eight deep ones and three convolutional ones."""
    from tiny_trainings import find_tiny_task, make_store

    for module in ("benchmarks.tasks.finding", "pretraining.slices", "pretraining.pretrain"):
        monkeypatch.setattr(f"ninokit.{module}.find_task", find_tiny_task)
    return make_store(store_path, {"deep": 8, "convolutional": 3})


@pytest.fixture
def tiny_models():
    from tiny_trainings import MODELS

    return MODELS
