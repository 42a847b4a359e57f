"""Arms with a nowcaster on the optimizers of another arm."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ninokit.benchmarks.arms.adamw import ADAMW
from ninokit.benchmarks.arms.arm import Arm, Option, Recipe
from ninokit.benchmarks.arms.trainer import Trainer
from ninokit.errors import ConfigError
from ninokit.nowcasters import Nowcaster
from ninokit.training import attach

__all__ = ["nowcasting_arm"]

# As a multiple of the task's.
_PERIOD = Option("period", default=1.0, values=(0.5, 1.0, 1.5, 2.0))


def nowcasting_arm(name: str, nowcaster: Nowcaster, base: Arm = ADAMW, *, weights_sha256: str | None = None) -> Arm:
    """An arm that trains with the optimizers of another one, and jumps.

    The option of the other arm keeps its default; what is tuned is the period. The horizons shrink towards the last
    step, and the last period has no jump, so that the arm depends on the budget.

    Args:
        name: of the nowcaster, as tables call it.
        nowcaster: what predicts.
        base: an arm that tells its optimizers.
        weights_sha256: see `Arm`.

    Returns:
        The arm, called ``NAME`` on AdamW at a constant rate, and ``BASE+NAME`` on another one.

    Raises:
        ConfigError: the base arm does not tell its optimizers.

    Example:
        >>> from ninokit.nowcasters import LineFit
        >>> nowcasting_arm("line", LineFit()).name
        'line'
    """
    optimizers = base.optimizers
    if optimizers is None:
        raise ConfigError(
            f"arm {base.name!r}: expected one that is optimizers alone, to attach {name!r} to; what this one does "
            "besides would undo the jumps. Attach to another arm, such as 'adamw'"
        )

    def begin(model: nn.Module, recipe: Recipe) -> Trainer:
        made = optimizers(model, replace(recipe, option=None))
        nowcasting = attach(
            list(made),
            model,
            nowcaster,
            total_steps=recipe.steps,
            period=max(1, round(recipe.value_of(_PERIOD) * recipe.period)),
            example_inputs=recipe.example_inputs,
            average=recipe.window,
        )
        return Trainer(made, nowcasting)

    return Arm(
        name=name if base is ADAMW else f"{base.name}+{name}",
        description=f"{base.name} with the nowcaster {name}",
        begin=begin,
        option=_PERIOD,
        depends_on_budget=True,
        nowcasts=True,
        weights_sha256=weights_sha256,
    )
