"""A copy of a network that computes nothing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["meta_copy"]


def meta_copy(model: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A network on the meta device, in evaluation mode, whose tensors have shapes but no numbers.

    Args:
        model: any module; it is left as it is, and none of its tensors is copied.

    Returns:
        The copy, and those of its constant tensors (what is no parameter, and not saved with the network) all of whose
        numbers are equal, such as zeros in the place of a bias.
    """
    memo: dict[int, Any] = {}
    alike = []
    for module in model.modules():
        saved = [value for name, value in module._buffers.items() if name not in module._non_persistent_buffers_set]
        kept = {id(value) for value in (*module._parameters.values(), *saved)}
        for value in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(value, Tensor) and id(value) not in memo:
                memo[id(value)] = _empty(value)
                if id(value) not in kept and _is_alike(value):
                    alike.append(memo[id(value)])
    return copy.deepcopy(model, memo).eval(), alike


def _empty(tensor: Tensor) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def _is_alike(tensor: Tensor) -> bool:
    return not tensor.is_meta and tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())
