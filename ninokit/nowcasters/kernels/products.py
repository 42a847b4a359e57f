"""Products of a row an edge with a small matrix, by the fastest routine that torch has for them.

Shape legend: rows = edges; in, out = features.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from ninokit.nowcasters.precision import multiplies_bfloat16

__all__ = ["has_one_dnn", "linear", "linear_silu"]


def linear(rows: Tensor, weight: Tensor) -> Tensor:
    """A layer without bias.

    Args:
        rows: shape (rows, in).
        weight: shape (out, in), of the same dtype.

    Returns:
        Shape (rows, out).
    """
    if has_one_dnn(rows.device.type, rows.dtype):
        return torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
    return rows @ weight.T


def linear_silu(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A layer and its activation.

    Args:
        rows: shape (rows, in).
        weight: shape (out, in), of the same dtype.
        bias: shape (out,), of the same dtype.

    Returns:
        SiLU of the layer's outputs, shape (rows, out).
    """
    if has_one_dnn(rows.device.type, rows.dtype):
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "swish", [], "")
    return nn.functional.silu(torch.addmm(bias, rows, weight.T), inplace=True)


@cache
def has_one_dnn(device: str, dtype: torch.dtype) -> bool:
    """Whether torch reaches oneDNN's fused layers here, as its compiler does.

    They use the widest vectors of every processor, which the BLAS behind ``@`` does not, and take the activation in
    the same pass. Float64 they lack; bfloat16 they want hardware for.

    Args:
        device: type of the device.
        dtype: of the factors.

    Returns:
        False where the layers fall back to other routines.
    """
    if device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16 and not multiplies_bfloat16(device):
        return False
    return dtype in {torch.float32, torch.bfloat16} and hasattr(torch.ops.mkldnn, "_linear_pointwise")
