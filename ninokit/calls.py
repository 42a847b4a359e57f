"""Calls of networks with whatever they take, and the tensors in whatever they return."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["call", "plain_mappings", "tensors_in"]


def call(model: nn.Module, inputs: Any) -> Any:
    """Call a network with a tensor, a tuple of arguments, or a dictionary of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def plain_mappings(inputs: Any) -> Any:
    """Inputs with dictionaries in the place of all mappings, such as a tokenizer's batches, into which pytrees go."""
    if isinstance(inputs, Mapping):
        return {key: plain_mappings(value) for key, value in inputs.items()}
    if type(inputs) in (tuple, list):
        return type(inputs)(map(plain_mappings, inputs))
    return inputs


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in tuples, mappings and dataclasses; other objects, such as caches, are left out."""
    items: Collection[Any] = ()
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (tuple, list)):
        items = value
    elif dataclasses.is_dataclass(value):
        items = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for item in items:
        yield from tensors_in(item)
