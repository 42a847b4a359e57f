"""Which weights of a network are its hidden matrices, the ones that Muon is made for."""

from __future__ import annotations

from typing import cast

from torch import nn
from torch.nn.modules.conv import _ConvNd

__all__ = ["hidden_matrices", "transposed_weights"]

# Stacked or single, the projections of nn.MultiheadAttention are parameters of its own.
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable matrices between a network's inputs and its output layer.

    They are the two-dimensional weights of linear layers (`torch.nn.Linear`, the ``Conv1D`` of transformers, and the
    projections of `torch.nn.MultiheadAttention`), but for those of embeddings, those that an embedding shares, and
    the output layer's. The output layer is the last of all linear and convolutional layers in the order in which the
    network's modules stand, as almost every network has it; if that one is a convolution, no linear layer is left out.

    Args:
        model: the network.

    Returns:
        Name → parameter, in the network's order.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> list(hidden_matrices(model))
        ['1.weight']
    """
    modules = list(model.modules())
    matrices = {id(matrix) for module in modules for matrix in _matrices(module)}
    embeddings = {id(module.weight) for module in modules if isinstance(module, nn.Embedding)}
    outputs = [id(module.weight) for module in modules if _is_linear(module) or isinstance(module, _ConvNd)][-1:]
    hidden = matrices - embeddings - set(outputs)
    return {name: p for name, p in model.named_parameters() if id(p) in hidden and p.requires_grad and p.ndim == 2}


def transposed_weights(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that are kept with a row an input, as GPT-2's of transformers are.

    Args:
        model: the network.

    Returns:
        Its ``Conv1D`` layers' weights, each of shape (inputs, outputs).
    """
    return [cast(nn.Parameter, module.weight) for module in model.modules() if _is_transposed(module)]


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"  # known by its name, so that transformers need not be imported


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _is_transposed(module)


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    if isinstance(module, nn.MultiheadAttention):
        return [matrix for name in _PROJECTIONS if (matrix := getattr(module, name)) is not None]
    return [cast(nn.Parameter, module.weight)] if _is_linear(module) else []
