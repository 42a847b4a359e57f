"""A copy of a network that computes nothing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["meta_copy"]


def meta_copy(model: nn.Module) -> nn.Module:
    """A network on the meta device, in evaluation mode, whose tensors have shapes but no numbers.

    Args:
        model: any module; it is left as it is, and none of its tensors is copied.

    Returns:
        The copy. Buffers all of whose numbers are equal, such as the zeros in place of a bias, stay as they are.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(value, Tensor) and id(value) not in memo:
                memo[id(value)] = _empty(value)
    return copy.deepcopy(model, memo).eval()


def _empty(tensor: Tensor) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made
