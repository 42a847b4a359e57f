import numpy as np
import torch

from ninokit.nowcasters.scaling import Scale


def test_mean_and_unbiased_deviation_over_all_elements_and_states():
    states = torch.randn(5, 4, 3) * 3 + 2
    scaled = Scale.of(states).apply(states).numpy()
    flat = states.numpy().astype(np.float64)
    np.testing.assert_allclose(scaled, (flat - flat.mean()) / (flat.std(ddof=1) + 1e-6), rtol=1e-5, atol=1e-6)


def test_undo_returns_to_the_parameters_units():
    states = torch.randn(5, 4, 3, dtype=torch.float64) * 3 + 2
    scale = Scale.of(states)
    torch.testing.assert_close(scale.undo(scale.apply(states)), states, rtol=1e-6, atol=1e-6)


def test_a_parameter_that_is_one_number_throughout_stays_finite_and_put():
    states = torch.full((5, 7), 0.25)
    scale = Scale.of(states)
    assert torch.equal(scale.apply(states), torch.zeros(5, 7))
    assert torch.equal(scale.undo(torch.randn(7)), torch.full((7,), 0.25))


def test_half_precision_is_summed_in_float32():
    states = torch.full((5, 100_000), 0.1, dtype=torch.bfloat16)
    assert Scale.of(states).mean.dtype == torch.float32
    np.testing.assert_allclose(Scale.of(states).mean.item(), states[0, 0].item(), rtol=1e-5)
