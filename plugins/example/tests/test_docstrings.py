"""Every example that a docstring shows runs."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["network", "nowcaster"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"ninokit_siren.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
