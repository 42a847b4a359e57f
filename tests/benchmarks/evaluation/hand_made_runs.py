"""Runs to compute with."""

from __future__ import annotations

from ninokit.zoo import Run


def run(steps: int, reached: bool = True) -> Run:
    """Half a second a step."""
    return Run(steps=steps, seconds=steps / 2, reached=reached)
