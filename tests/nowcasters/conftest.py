import pytest
import torch
from torch import nn

import ninokit
from ninokit.nowcasters import precision


def random_history(model: nn.Module, context: int = 5) -> dict[str, torch.Tensor]:
    """States that drift as in training: a start, a trend and some noise."""
    return {
        name: torch.randn(p.shape) + torch.arange(context).view(-1, *[1] * p.ndim) * 0.1 * torch.randn(p.shape)
        + 0.01 * torch.randn(context, *p.shape)
        for name, p in model.named_parameters()
    }  # fmt: skip


@pytest.fixture
def history_of():
    return random_history


@pytest.fixture
def any_bfloat16(monkeypatch):
    """Products in bfloat16 even where the processor has none and they are slow."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)


@pytest.fixture
def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 5),
    )  # fmt: skip


@pytest.fixture
def nino() -> ninokit.nowcasters.Nino:
    return ninokit.nowcasters.Nino(hidden=16).double()
