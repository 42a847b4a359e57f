"""Copies of a network: one that computes nothing, and a whole one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["full_copy", "meta_copy"]


def meta_copy(model: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A network on the meta device, in evaluation mode, whose tensors have shapes but no numbers.

    Args:
        model: any module; it is left as it is, and none of its tensors is copied.

    Returns:
        The copy, and those of its constant tensors (what is no parameter, and not saved with the network) all of whose
        numbers are equal, such as zeros in the place of a bias.
    """
    saved = {id(value) for module in model.modules() for value in _saved(module)}
    memo: dict[int, Any] = {}
    alike = []
    for value in _tensors(model, set()):
        if id(value) not in memo:
            memo[id(value)] = _empty(value)
            if id(value) not in saved and _is_alike(value):
                alike.append(memo[id(value)])
    return copy.deepcopy(model, memo).eval(), alike


def full_copy(model: nn.Module) -> nn.Module:
    """A copy of a network with all its numbers.

    Args:
        model: any module. Tensors that it has computed from its parameters, as `torch.nn.utils.weight_norm` leaves
            them there, which `copy.deepcopy` refuses, are copied as numbers.

    Returns:
        The copy.
    """
    computed = [tensor for tensor in _tensors(model, set()) if tensor.grad_fn is not None]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in computed}
    return copy.deepcopy(model, memo)


def _saved(module: nn.Module) -> Iterator[Tensor | None]:
    """The parameters and buffers of a module itself that are saved with the network."""
    yield from module._parameters.values()
    yield from (value for name, value in module._buffers.items() if name not in module._non_persistent_buffers_set)


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors in a module, its attributes, and modules that are hidden in a list there, such as a teacher."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module | Mapping | list | tuple | set) and id(value) not in seen:
        seen.add(id(value))
        items = vars(value) if isinstance(value, nn.Module) else value
        for item in items.values() if isinstance(items, Mapping) else items:
            yield from _tensors(item, seen)


def _empty(tensor: Tensor) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def _is_alike(tensor: Tensor) -> bool:
    return not tensor.is_meta and tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())
