"""A task that makes its own data: in which part of a picture does a point lie?

Shapes: N points, K = 3 parts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ninokit.benchmarks import ClassificationData, Task
from ninokit_siren.network import Siren

__all__ = ["SIREN_PETALS", "part_at"]

_SIDE = 64  # training points along each side


def part_at(points: Tensor) -> Tensor:
    """The part of the picture at some points: 0 around a flower of five petals, 1 in a petal, 2 in its heart.

    Args:
        points: shape (N, 2), each coordinate from -1 to 1.

    Returns:
        Shape (N,), int64.
    """
    radius, angle = points.norm(dim=1), torch.atan2(points[:, 1], points[:, 0])
    petal = radius < 0.6 + 0.25 * torch.cos(5 * angle)
    return petal.long() + (radius < 0.25).long()


def _load_data(_: Path | None) -> ClassificationData:
    """A grid of points to train on, and the points in the middle of its cells to test."""
    side = torch.linspace(-1, 1, _SIDE)
    train = torch.cartesian_prod(side, side)
    test = torch.cartesian_prod(*[(side[1:] + side[:-1]) / 2] * 2)
    return ClassificationData(
        train_inputs=train, train_labels=part_at(train), test_inputs=test, test_labels=part_at(test)
    )


def _build_model() -> nn.Module:
    return Siren(in_features=2, hidden=32, depth=4, out_features=3, omega=10.0)


SIREN_PETALS = Task(
    name="siren_petals",
    description="points of a picture of a flower, SIREN",
    build_model=_build_model,
    load_data=_load_data,
    batch_size=256,
    lr=3e-4,
    total_steps=2000,
    eval_every=50,
    target=0.985,
    period=100,
)
