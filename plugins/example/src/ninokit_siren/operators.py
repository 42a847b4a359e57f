"""The sine as an operator of its own, as a library with a fused kernel would have it, and what the tracer makes of it.

Without its rule the tracer does not know what the operator does to neurons, and fixes the order of all that it reads.
"""
# No `from __future__ import annotations`: PyTorch reads the operator's schema from the types of its arguments.

from typing import Any

import torch
from torch import Tensor

from ninokit.graph.tracing import Axes, Call

__all__ = ["sine", "trace_sine"]


@torch.library.custom_op("ninokit_siren::sine", mutates_args=())
def sine(x: Tensor, omega: float) -> Tensor:
    """``sin(omega x)``, number by number.

    Args:
        x: any shape, floating point.
        omega: a factor.

    Returns:
        Of the shape of `x`.
    """
    return torch.sin(omega * x)


@sine.register_fake
def _(x: Tensor, omega: float) -> Tensor:
    return torch.empty_like(x)


def _remember(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
    x, ctx.omega = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (x,) = ctx.saved_tensors
    return gradient * ctx.omega * torch.cos(ctx.omega * x), None


sine.register_autograd(_backward, setup_context=_remember)


def trace_sine(call: Call) -> Axes:
    """The rule of the operator: it acts on each number by itself, so the neurons stay what they are.

    Args:
        call: the operator as it ran.

    Returns:
        The axes of its output.
    """
    return call.axes(0)
