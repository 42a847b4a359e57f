"""From a multilayer perceptron to its neural graph."""

from __future__ import annotations

from typing import Any

from torch import nn

from ninokit.errors import UnsupportedModelError
from ninokit.graph import NeuralGraph
from ninokit.graph.chain_builder import NORMS, ChainBuilder
from ninokit.graph.chains import parameter_owners, read_chain

__all__ = ["encode", "matches"]


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
