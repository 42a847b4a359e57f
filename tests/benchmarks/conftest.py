"""A tiny task and hand-made runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks import ClassificationData, Task
from ninokit.benchmarks.training import EvalPoint, RunRecord
from ninokit.training import NowcastEvent


def three_blobs(root: object = None) -> ClassificationData:
    """70 + 40 points of three separable blobs."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(110) % 3
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    inputs = centres[labels] + 0.4 * torch.randn(110, 2, generator=generator)
    return ClassificationData(
        train_inputs=inputs[:70], train_labels=labels[:70], test_inputs=inputs[70:], test_labels=labels[70:]
    )


TINY = Task(
    name="tiny",
    description="three blobs in the plane",
    build_model=lambda: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)),
    load_data=three_blobs,
    batch_size=16,
    lr=0.01,
    weight_decay=0.1,
    total_steps=40,
    eval_every=15,
    target=0.9,
    period=10,
)


@pytest.fixture
def tiny() -> Task:
    return replace(TINY)


@pytest.fixture
def make_run() -> Callable[..., RunRecord]:
    """A run from its scores at steps 100, 200, …; half a second a step unless told."""

    def make(
        method: str, seed: int, scores: list[float], *, seconds_a_step: float = 0.5, refused: bool = False
    ) -> RunRecord:
        points = tuple(
            EvalPoint(step, step * seconds_a_step, 2.0 / step, score)
            for step, score in zip(range(100, 100 * len(scores) + 1, 100), scores, strict=True)
        )
        events = (NowcastEvent(100, 5, True, "", 0.25), NowcastEvent(200, 3, not refused, "bad" * refused, 0.5))
        return RunRecord(method, seed, points, events if method == "nowcasting" else ())

    return make
