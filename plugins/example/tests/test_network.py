"""The network and its operator."""

from __future__ import annotations

import math

import pytest
import torch

from ninokit_siren.network import Siren
from ninokit_siren.operators import sine


def test_operator():
    x = torch.randn(7, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(sine, (x, 3.0), test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))
    assert torch.autograd.gradcheck(lambda x: sine(x, 3.0), x)
    torch.testing.assert_close(sine(x, 3.0), torch.sin(3 * x))


def test_values_by_hand():
    model = Siren(1, 1, depth=2, out_features=1, skip=1, omega=2.0)
    numbers = {
        "layers.0.weight": [[0.5]],
        "layers.0.bias": [0.1],
        "layers.1.weight": [[0.3, -0.7]],
        "layers.1.bias": [0.2],
        "modulation": [[0.05], [-0.4]],
        "readout.weight": [[2.0]],
        "readout.bias": [1.0],
    }
    model.load_state_dict({name: torch.tensor(value) for name, value in numbers.items()})
    first = math.sin(2 * (0.5 * 0.6 + 0.1 + 0.05))
    second = math.sin(2 * (0.3 * first - 0.7 * 0.6 + 0.2 - 0.4))
    assert model(torch.tensor([[0.6]])).item() == pytest.approx(2 * second + 1, abs=1e-6)


@pytest.mark.parametrize("skip", [0, 3, -1])
def test_skips_that_there_are_not(skip):
    with pytest.raises(ValueError, match=f"^Siren: expected skip to be None or from 1 to 2, got {skip}$"):
        Siren(depth=3, skip=skip)
