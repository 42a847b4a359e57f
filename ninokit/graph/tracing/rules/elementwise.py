"""Operators that act on each number by itself, or on numbers at the same index."""

from __future__ import annotations

from collections.abc import Mapping

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule

__all__ = ["ELEMENTWISE"]

_ONE = [
    "abs",
    "acos",
    "acosh",
    "alias",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "bernoulli",
    "bitwise_not",
    "ceil",
    "celu",
    "clone",
    "_conj",
    "contiguous",
    "cos",
    "cosh",
    "detach",
    "digamma",
    "elu",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "frac",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "i0",
    "isfinite",
    "isinf",
    "isnan",
    "leaky_relu",
    "lgamma",
    "lift_fresh",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_sigmoid",
    "log_sigmoid_forward",
    "logical_not",
    "logit",
    "mish",
    "nan_to_num",
    "native_dropout",
    "neg",
    "positive",
    "reciprocal",
    "relu",
    "relu6",
    "round",
    "rsqrt",
    "selu",
    "sgn",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinc",
    "sinh",
    "softplus",
    "softshrink",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "threshold",
    "to",
    "_to_copy",
    "trunc",
]

_PRODUCTS = [
    "atan2",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "clamp",
    "clamp_max",
    "clamp_min",
    "complex",
    "copysign",
    "div",
    "eq",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "ge",
    "gt",
    "heaviside",
    "hypot",
    "le",
    "logaddexp",
    "logaddexp2",
    "logical_and",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "pow",
    "prelu",
    "_prelu_kernel",
    "remainder",
    "true_divide",
    "where",
    "xlogy",
]

# The derivatives of activations, of networks that differentiate on their way.
_BACKWARD = [
    "elu_backward",
    "gelu_backward",
    "hardtanh_backward",
    "leaky_relu_backward",
    "mish_backward",
    "sigmoid_backward",
    "silu_backward",
    "softplus_backward",
    "tanh_backward",
    "threshold_backward",
]

_SUMS = ["add", "rsub", "sub"]

# Those without values among them: none of these is read before it is written.
_CONSTANTS = [
    "empty",
    "empty_like",
    "empty_strided",
    "full",
    "full_like",
    "new_empty",
    "new_empty_strided",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones",
    "ones_like",
    "scalar_tensor",
    "zeros",
    "zeros_like",
]

_POSITIONS = [
    "arange",
    "eye",
    "linspace",
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
]


def _alone(call: Call) -> Axes:
    return call.axes(0)


def _product(call: Call) -> Axes:
    operands = [call.lookup(tensor) for tensor in call.tensors]
    return call.algebra.elementwise(operands, usage="scale", stay=call.in_place).expand(call.shape)


def _sum(call: Call) -> Axes:
    operands = [call.lookup(tensor) for tensor in call.tensors]
    return call.algebra.elementwise(operands, "add", "shift", stay=call.in_place).expand(call.shape)


def _sum_with_product(call: Call) -> Axes:
    """``self + value * first * second`` (or a quotient)."""
    product = call.algebra.elementwise([call.axes(1), call.axes(2)], usage="scale")
    return call.algebra.elementwise([call.axes(0), product], "add", usage="shift").expand(call.shape)


def _interpolate(call: Call) -> Axes:
    """``start + weight * (end - start)``."""
    return call.algebra.elementwise([call.axes(0), call.axes(1), call.axes(2)], "add").expand(call.shape)


def _copy(call: Call) -> Axes:
    return call.axes(1).expand(call.shape)


def _fill(call: Call) -> Axes:
    return Axes.constant(call.shape, alike=True)


def _positions(call: Call) -> Axes:
    return Axes.constant(call.shape)


ELEMENTWISE: Mapping[str, Rule] = {
    **{f"aten.{name}": _alone for name in _ONE},
    **{f"aten.{name}": _product for name in (*_PRODUCTS, *_BACKWARD)},
    **{f"aten.{name}": _sum for name in _SUMS},
    **{f"aten.{name}": _fill for name in (*_CONSTANTS, "fill", "zero")},
    **{f"aten.{name}": _positions for name in _POSITIONS},
    "aten.addcmul": _sum_with_product,
    "aten.addcdiv": _sum_with_product,
    "aten.lerp": _interpolate,
    "aten.copy": _copy,
}
