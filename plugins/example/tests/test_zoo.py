"""The entry of the zoo that the plugin ships, and how it was fitted."""

from __future__ import annotations

import torch

from ninokit.nowcasters import load
from ninokit_siren.fitting import collect, error, fit
from ninokit_siren.nowcaster import Holt


def test_entry_is_shipped_and_better_than_no_change():
    nowcaster = load("holt_siren")
    assert isinstance(nowcaster, Holt)
    assert (nowcaster.context, nowcaster.max_horizon) == (5, 20)
    unseen = collect(7, steps=520)
    assert error(nowcaster, [unseen]) < 0.9


def test_error_of_no_change_is_one():
    still = Holt(alpha=1.0, phi=1e-9, max_horizon=20)
    trajectory = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).cumsum(0)
    torch.testing.assert_close(error(still, [trajectory]), torch.tensor(1.0))


def test_fitting_finds_the_damping():
    """Weights whose steps shrink by 0.8 from state to state are predicted exactly by alpha = beta = 1, phi = 0.8."""
    steps = 0.8 ** torch.arange(40)
    trajectory = torch.cumsum(steps, 0)[:, None] * torch.tensor([1.0, -2.0, 0.5])
    found = fit([trajectory])
    assert error(found, [trajectory]) < 0.05
    assert abs(found.phi.item() - 0.8) < 0.02
