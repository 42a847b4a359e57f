"""A small network, its batches, and the loop that trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from ninokit.benchmarks.arms import Arm, Recipe, Trainer


def batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        inputs = torch.randn(16, 3, generator=generator)
        yield inputs, (inputs.sum(1) > 0).long()


def build_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def take_steps(model: nn.Module, trainer: Trainer, steps: int) -> list[float]:
    losses = []
    for inputs, labels in batches(steps):
        trainer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        trainer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(lr=0.01, weight_decay=0.1, steps=40, period=10, window=4)


@pytest.fixture
def begun() -> Callable[[Arm, Recipe, int], tuple[nn.Module, Trainer]]:
    """A network and its training by an arm, some steps later."""

    def begin(arm: Arm, recipe: Recipe, steps: int) -> tuple[nn.Module, Trainer]:
        model = build_network()
        trainer = arm.begin(model, recipe)
        take_steps(model, trainer, steps)
        return model, trainer

    return begin


@pytest.fixture
def network() -> nn.Module:
    return build_network()


@pytest.fixture
def steps_of() -> Callable[[nn.Module, Trainer, int], list[float]]:
    """The losses of some steps of a training."""
    return take_steps


@pytest.fixture
def same_weights() -> Callable[[nn.Module, nn.Module], bool]:
    def same(first: nn.Module, second: nn.Module) -> bool:
        mine, yours = first.state_dict(), second.state_dict()
        return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)

    return same
