"""An arm: NAdam, as a way to train that an evaluation compares with the others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import NAdam, Optimizer

from ninokit.benchmarks.arms import Option, Recipe, optimizer_arm

__all__ = ["NADAM"]

_DECAY = Option("momentum_decay", default=0.004, values=(0.001, 0.004, 0.016))


def _optimizers(model: nn.Module, recipe: Recipe) -> Sequence[Optimizer]:
    return [
        NAdam(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum_decay=recipe.value_of(_DECAY),
            decoupled_weight_decay=True,
        )
    ]


# Of optimizers alone, so that a nowcaster may be attached: nadam+holt.
NADAM = optimizer_arm("nadam", "NAdam, with Nesterov momentum that warms up, at a constant rate", _optimizers, _DECAY)
