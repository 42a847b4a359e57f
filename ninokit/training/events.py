"""What happened at a nowcast."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NowcastEvent"]


@dataclass(frozen=True)
class NowcastEvent:
    """One nowcast, accepted or refused.

    Args:
        step: optimizer steps taken when it happened, counted from 1.
        horizon: units ahead that were predicted, each a period's time divided by the context.
        accepted: whether the predicted weights were kept.
        reason: why it was refused; empty if it was accepted.
        seconds: wall time of prediction and write-back.
    """

    step: int
    horizon: int
    accepted: bool
    reason: str
    seconds: float
