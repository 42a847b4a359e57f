from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from ninokit.nowcasters import Nowcaster


class Scripted(Nowcaster):
    """A nowcaster that returns what the test says: last state + change, after `distort`."""

    context = 5
    max_horizon = 10
    needs_graph = False

    def __init__(self, change: float = 0.25, distort=None) -> None:
        self.change = change
        self.distort = distort
        self.calls: list[tuple[dict[str, Tensor], int]] = []

    def forecast(self, graph, history: Mapping[str, Tensor], horizon: int) -> Iterator[tuple[str, Tensor]]:
        self.calls.append(({name: states.clone() for name, states in history.items()}, horizon))
        for name, states in history.items():
            prediction = states[-1] + self.change
            yield from [(name, prediction)] if self.distort is None else self.distort(name, prediction)


@pytest.fixture
def scripted():
    return Scripted


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(16, 4, generator=generator) for _ in range(60)]
    return [(x, x.sin().sum(1, keepdim=True)) for x in inputs]


@pytest.fixture
def train():
    def run(model, optimizer, batches) -> list[float]:
        """The plain training loop that a user would write."""
        losses = []
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run
