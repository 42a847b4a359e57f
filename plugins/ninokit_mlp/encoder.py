"""From a multilayer perceptron to its neural graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ninokit.errors import UnsupportedModelError
from ninokit.graph import NeuralGraph
from ninokit.graph.chain_builder import NORMS, ChainBuilder
from ninokit.graph.chains import parameter_owners, read_chain

__all__ = ["encode", "examples", "matches"]


def matches(model: nn.Module) -> bool:
    """Whether all parameters are those of linear layers and norms.

    Args:
        model: any module.

    Returns:
        True if there is a linear layer, and no other parameter than linear layers' and norms'.
    """
    owners = parameter_owners(model)
    return any(isinstance(m, nn.Linear) for m in owners) and all(isinstance(m, (nn.Linear, *NORMS)) for m in owners)


def encode(model: nn.Module, example_inputs: Any = None) -> NeuralGraph:
    """The neural graph of linear layers in a chain.

    Args:
        model: a multilayer perceptron.
        example_inputs: not needed.

    Returns:
        A graph with a group a layer.

    Raises:
        UnsupportedModelError: with the reason, if the model is no such chain.
    """
    chain = ChainBuilder(model)
    for step in read_chain(model):
        if not chain.add(step):
            raise UnsupportedModelError(f"{step.name!r} is no layer, norm or activation of a multilayer perceptron")
    return chain.build()


def examples() -> list[tuple[nn.Module, Any]]:
    """Small multilayer perceptrons.

    Returns:
        Models, each with inputs.
    """
    norms = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5), nn.LayerNorm(5))
    return [
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(3, 4)),
        (nn.Sequential(*norms, nn.GELU(), nn.Linear(5, 3, bias=False)), torch.randn(3, 4)),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 5, 3)), torch.randn(3, 5, 4)),
    ]
