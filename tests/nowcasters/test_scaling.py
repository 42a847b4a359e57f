import numpy as np
import torch

from ninokit.nowcasters import scaling
from ninokit.nowcasters.scaling import Scale


def test_mean_and_unbiased_deviation_over_all_elements_and_states():
    states = torch.randn(5, 4, 3) * 3 + 2
    scaled = Scale.of(states, states).apply(states).numpy()
    flat = states.numpy().astype(np.float64)
    np.testing.assert_allclose(scaled, (flat - flat.mean()) / (flat.std(ddof=1) + 1e-6), rtol=1e-5, atol=1e-6)


def test_undo_returns_to_the_parameters_units():
    states = torch.randn(5, 4, 3, dtype=torch.float64) * 3 + 2
    scale = Scale.of(states, states)
    torch.testing.assert_close(scale.undo(scale.apply(states)), states, rtol=1e-6, atol=1e-6)


def test_a_parameter_that_is_one_number_throughout_stays_finite_and_put():
    states = torch.full((5, 7), 0.25)
    scale = Scale.of(states, states)
    assert torch.equal(scale.apply(states), torch.zeros(5, 7))
    assert torch.equal(scale.undo(torch.randn(7)), torch.full((7,), 0.25))


def test_any_number_of_pieces_gives_the_same(monkeypatch):
    states = torch.randn(5, 7, 11) + 100
    whole = Scale.of(states, states.double())
    monkeypatch.setattr(scaling, "_PIECE", 9)
    split = Scale.of(states, states.double())
    np.testing.assert_allclose(split.mean, states.double().mean(), rtol=1e-14)
    np.testing.assert_allclose(split.deviation, states.double().std(), rtol=1e-12)
    np.testing.assert_allclose(whole.deviation, split.deviation, rtol=1e-12)


def test_half_precision_is_summed_exactly():
    states = torch.full((5, 100_000), 0.1, dtype=torch.bfloat16)
    scale = Scale.of(states, torch.empty(1))
    assert scale.mean.dtype == torch.float32
    assert scale.mean == states[0, 0]
