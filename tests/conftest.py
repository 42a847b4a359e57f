"""Fixtures of all tests."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Loaded machines are slow at random; a failure prints what reproduces it.
settings.register_profile("ninokit", deadline=None, print_blob=True)
settings.load_profile("ninokit")

_ROOT = Path(__file__).resolve().parents[1]
_SHARED = _ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def code_blocks() -> Callable[[str], list[str]]:
    """A function of a document's path in the repository, for the Python in it."""

    def of(path: str) -> list[str]:
        return re.findall(r"```python\n(.*?)```", (_ROOT / path).read_text(), flags=re.DOTALL)

    return of


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of goldens and data beside the repository; what needs it is skipped where it is absent."""
    if not (_SHARED / "goldens").is_dir():
        pytest.skip("../shared is not beside this checkout")
    return _SHARED


@pytest.fixture(scope="session")
def dgl_installed() -> None:
    """For tests that need DGL, which has no wheels for Python 3.13."""
    try:
        metadata.version("dgl")
    except metadata.PackageNotFoundError:
        pytest.skip("dgl is not installed")


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    """For tests of the command line, which sets logging up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
