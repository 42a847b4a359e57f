"""A store needs zarr, which is for Python 3.11 and later."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_ignore_collect() -> bool | None:
    return True if importlib.util.find_spec("zarr") is None else None


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "trajectories"
