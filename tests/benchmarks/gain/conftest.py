"""Tiny trainings: a regression that takes a third of a millisecond a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from ninokit.benchmarks.gain import Training


def plain_network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def noisy_network() -> nn.Module:
    """With everything that has a state of its own: running statistics and random numbers."""
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def target(x: Tensor) -> Tensor:
    return (x[:, :1] * x[:, 1:2]).sin() + x[:, 2:]


def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(16, 3, generator=generator)
        yield x, target(x) + 0.3 * torch.randn(16, 1, generator=generator)


def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (network(batch[0]) - batch[1]).square().mean()


@torch.no_grad()
def validation_loss(network: nn.Module) -> float:
    assert not network.training
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(77))
    return loss(network, (x, target(x))).item()


@pytest.fixture
def maker() -> Callable[..., Callable[[int], Training]]:
    """Network → a ``make``, for AdamW at a rate at which the network learns slowly all along."""

    def of(network: Callable[[], nn.Module] = plain_network, lr: float = 1e-3) -> Callable[[int], Training]:
        def make(seed: int) -> Training:
            model = network()
            return Training(
                model=model,
                optimizer=torch.optim.AdamW(model.parameters(), lr=lr),
                batches=batches,
                loss=loss,
                validation_loss=validation_loss,
            )

        return make

    return of


@pytest.fixture
def noisy(maker) -> Callable[[int], Training]:
    return maker(noisy_network, 1e-2)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "cache"))
