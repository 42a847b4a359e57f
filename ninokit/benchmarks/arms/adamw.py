"""AdamW at a constant rate: the baseline, and what the other arms are made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import AdamW, Optimizer

from ninokit.benchmarks.arms.arm import Option, Recipe, optimizer_arm

__all__ = ["ADAMW", "trainable"]

_BETA2 = Option("beta2", default=0.999, values=(0.95, 0.99, 0.999))


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters to train: those that need a gradient.

    Args:
        model: the network.

    Returns:
        Each once, in the network's order.
    """
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimizers(model: nn.Module, recipe: Recipe) -> Sequence[Optimizer]:
    betas = 0.9, recipe.value_of(_BETA2)
    return [AdamW(trainable(model), lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay)]


ADAMW = optimizer_arm("adamw", "AdamW at a constant rate", _optimizers, _BETA2)
