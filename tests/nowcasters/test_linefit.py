import re

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays

from ninokit.errors import ConfigError, ForecastError
from ninokit.nowcasters import LineFit


@given(
    arrays(np.float64, st.tuples(st.integers(2, 7), st.integers(1, 4)), elements=st.floats(-10, 10)),
    st.integers(1, 5),
)
def test_it_is_numpys_polynomial_fit_of_degree_one(states, horizon):
    context = len(states)
    slope, intercept = np.polyfit(np.arange(context), states, 1)
    expected = intercept + slope * (context - 1 + horizon)
    history = {"w": torch.from_numpy(states)}
    prediction = dict(LineFit(context, max_horizon=5).forecast(None, history, horizon))["w"]
    np.testing.assert_allclose(prediction, expected, atol=1e-9)


def test_shapes_are_kept_and_dtypes_are_float32_at_least():
    history = {"a": torch.randn(5, 3, 2), "b": torch.randn(5).bfloat16(), "c": torch.randn(5, 1).double()}
    prediction = dict(LineFit().forecast(None, history, 2))
    assert {name: (x.shape, x.dtype) for name, x in prediction.items()} == {
        "a": ((3, 2), torch.float32),
        "b": ((), torch.float32),
        "c": ((1,), torch.float64),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_states_are_fitted_in_float32(dtype):
    states = torch.randn(5, 100).to(dtype)
    prediction = dict(LineFit().forecast(None, {"w": states}, 2))["w"]
    slope, intercept = np.polyfit(np.arange(5), states.double().numpy(), 1)
    np.testing.assert_allclose(prediction, intercept + slope * 6, rtol=1e-5, atol=1e-6)


def test_bad_settings_and_input():
    message = "LineFit: expected context ≥ 2 and max_horizon ≥ 1, got context=1, max_horizon=2"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        LineFit(context=1)
    with pytest.raises(ForecastError, match=re.escape("history: expected the states of at least one parameter, got")):
        list(LineFit().forecast(None, {}, 1))
