"""What optimizers remember of the weights goes along with a jump."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ninokit


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lbfgs_starts_anew(seed):
    """With the gradients' difference over a jump for that over its own step it diverged, to losses of 1e16."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    model[0].bias.requires_grad_(False)
    inputs = torch.randn(64, 4)
    targets = inputs.sin().sum(1, keepdim=True)
    optimizer = torch.optim.LBFGS([model[0].bias, *(p for p in model.parameters() if p.requires_grad)])
    nowcasting = ninokit.attach(optimizer, model, period=10, total_steps=60)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(60)]
    assert nowcasting.accepted == 5
    assert losses[-1] < 0.05 * losses[0]


def test_madgrad_goes_on_from_the_jump(scripted):
    """It pulls the weights back to where they started from, plus a step."""
    optim = pytest.importorskip("timm.optim")
    model = nn.Linear(3, 1)
    optimizer = optim.MADGRAD(model.parameters(), lr=1e-4)
    ninokit.attach(optimizer, model, scripted(1.0), period=10, total_steps=60)
    start = model.weight.detach().clone()
    for _ in range(19):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), start + 1.0, atol=0.1, rtol=0)
