"""AdamW whose rate falls linearly to zero at the last step."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ninokit.benchmarks.arms.adamw import trainable
from ninokit.benchmarks.arms.arm import Arm, Option, Recipe
from ninokit.benchmarks.arms.trainer import Trainer, averaging_trainer

__all__ = ["ADAMW_LINEAR", "decay_factor"]

_SHARE = Option("decay_share", default=1.0, values=(0.2, 0.5, 1.0))


def decay_factor(step: int, *, steps: int, share: float) -> float:
    """What the rate is multiplied by at a step.

    Args:
        step: steps done before it, at least 0.
        steps: of the whole training, at least 1.
        share: of the training, at its end, over which the rate falls, above 0 and at most 1.

    Returns:
        From 1 to 0; 0 only when all steps are done.

    Example:
        >>> [decay_factor(step, steps=8, share=0.5) for step in range(9)]
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    return min(1.0, max(0, steps - step) / (share * steps))


def _begin(model: nn.Module, recipe: Recipe) -> Trainer:
    optimizer = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)
    factor = partial(decay_factor, steps=recipe.steps, share=recipe.value_of(_SHARE))
    return averaging_trainer(model, [optimizer], recipe.window, schedulers=[LambdaLR(optimizer, factor)])


ADAMW_LINEAR = Arm(
    name="adamw_linear",
    description="AdamW, its rate falling linearly to zero at the last step",
    begin=_begin,
    option=_SHARE,
    depends_on_budget=True,
)
