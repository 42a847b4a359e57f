"""What every nowcaster relies on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ninokit.nowcasters.base import all_finite

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 40), max_size=3),
    st.sampled_from([0.0, float("nan"), float("inf"), -float("inf")]),
    st.integers(0, 10**5),
    st.booleans(),
)
def test_finite_is_what_torch_says_number_by_number(dtype, shape, value, place, turned):
    numbers = torch.randn(shape).to(dtype)
    if numbers.numel():
        numbers.view(-1)[place % numbers.numel()] = value
    if turned and numbers.ndim > 1:
        numbers = numbers.mT
    assert all_finite(numbers) == bool(torch.isfinite(numbers).all())


@pytest.mark.parametrize("value", [complex(0, float("nan")), complex(0, float("inf"))])
def test_an_imaginary_part_counts(value):
    assert not all_finite(torch.tensor([1, value]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_largest_numbers_are_finite(dtype):
    assert all_finite(torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.int64])
def test_whole_numbers_are_finite(dtype):
    assert all_finite(torch.ones(3).to(dtype))
