"""From a transformer to its neural graph: find the network whose class is in a table, and follow the table."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from ninokit.errors import GraphError, UnsupportedModelError
from ninokit.graph import NeuralGraph
from ninokit_transformers.flow import build_graph
from ninokit_transformers.huggingface import HUGGINGFACE
from ninokit_transformers.pytorch import PYTORCH
from ninokit_transformers.tables import Network

__all__ = ["encode", "examples", "matches"]

NETWORKS = {**HUGGINGFACE, **PYTORCH}


class _Found(NamedTuple):
    path: str
    module: nn.Module
    network: Network


def matches(model: nn.Module) -> bool:
    """Whether the model is, or holds, a network of a class that is in a table.

    Args:
        model: any module.

    Returns:
        True for an instance of such a class or of a subclass of it, also inside PEFT's or other wrappers.
    """
    return _find(model) is not None


def encode(model: nn.Module, example_inputs: Any = None) -> NeuralGraph:
    """The neural graph of a transformer.

    Args:
        model: a network of a class that is in a table, or a wrapper around one without further parameters.
        example_inputs: not needed.

    Returns:
        A graph with a group for the residual stream after each layer, for each attention's queries and values, for
        its heads, and for each hidden layer.

    Raises:
        UnsupportedModelError: with the reason, if there is no such network or its table does not fit it.
    """
    found = _find(model)
    if found is None:
        raise UnsupportedModelError(f"neither {type(model).__name__} nor a module in it is of a class in the tables")
    try:
        return build_graph(model, found.module, found.path, found.network)
    except GraphError as error:  # a layer of another shape than its class gives it
        raise UnsupportedModelError(str(error)) from error


def examples() -> list[tuple[nn.Module, Any]]:
    """Small transformers of `torch.nn`, which is always there.

    Returns:
        Models, each with inputs.
    """
    layer = nn.TransformerEncoderLayer(8, 2, 12, norm_first=True, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    both = nn.Transformer(8, 4, 1, 2, 12, batch_first=True)
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    return [(encoder, source), (both, (source, target)), (nn.MultiheadAttention(8, 2), (source, source, source))]


def _find(model: nn.Module) -> _Found | None:
    """The outermost module of a known class; which parameters it leaves out is seen when they are counted."""
    for path, module in model.named_modules():
        for ancestor in type(module).__mro__:
            network = NETWORKS.get(f"{ancestor.__module__}.{ancestor.__qualname__}")
            if network is not None:
                return _Found(path, module, network)
    return None
