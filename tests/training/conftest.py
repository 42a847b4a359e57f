import pytest
import torch
from scripted_nowcaster import Scripted
from torch import Tensor, nn


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
