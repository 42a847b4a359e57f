"""What an arm is: a way to train, the setting of its own that is tuned, and what a training is begun with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn
from torch.optim import Optimizer

from ninokit.benchmarks.arms.trainer import Trainer, averaging_trainer
from ninokit.errors import ConfigError

__all__ = ["Arm", "MakeOptimizers", "Option", "Recipe", "UnsuitedArmError", "optimizer_arm"]

# Every arm is tuned over as many values, so that none wins by a finer grid.
_MOST_VALUES = 4


class UnsuitedArmError(ConfigError):
    """An arm can't train this network; an evaluation leaves the arm out there, and says why.

    Args:
        message: where, what was expected, what came, what to do.
        reason: the same in a few words, for a table.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Option:
    """The one setting of its own that an arm is tuned by, besides the rate.

    Args:
        name: what tables call it.
        default: its value where nothing is tuned.
        values: to tune over, at most four, the default among them.

    Raises:
        ConfigError: there are more values, one stands there twice, or the default is none of them.
    """

    name: str
    default: float
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.default not in self.values or not len(set(self.values)) == len(self.values) <= _MOST_VALUES:
            raise ConfigError(
                f"option {self.name!r}: expected at most {_MOST_VALUES} different values with the default among them; "
                f"got {self.values} and the default {self.default}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training is begun with.

    Args:
        lr: learning rate, above 0; AdamW's, where several optimizers train.
        weight_decay: decoupled, of all parameters, at least 0.
        steps: optimizer steps that the training will have, at least 1.
        period: optimizer steps between two nowcasts, at least 1.
        window: optimizer steps that the average of the weights spans, at least 1.
        option: the value of the arm's option; None is its default.
        example_inputs: what the network is called with, for `ninokit.encode`; None where it is not needed.

    Raises:
        ConfigError: a number of steps is out of its range. The optimizers check the others.
    """

    lr: float
    weight_decay: float
    steps: int
    period: int
    window: int
    option: float | None = None
    example_inputs: Any = None

    def __post_init__(self) -> None:
        for setting in ("steps", "period", "window"):
            value = getattr(self, setting)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"recipe: {setting} must be a whole number of steps, at least 1; got {value!r}")

    def value_of(self, option: Option) -> float:
        """The value that an arm's option has here.

        Args:
            option: the arm's.

        Returns:
            The recipe's, or the default.

        Example:
            >>> beta2 = Option("beta2", default=0.999, values=(0.99, 0.999))
            >>> Recipe(lr=0.1, weight_decay=0.0, steps=10, period=5, window=3).value_of(beta2)
            0.999
        """
        return option.default if self.option is None else self.option


MakeOptimizers: TypeAlias = Callable[[nn.Module, Recipe], Sequence[Optimizer]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """One way to train a task.

    Args:
        name: unique over all plugins; what settings and tables call it.
        description: one line.
        begin: begins a training of a network that is on its device. The network's random numbers are drawn before; an
            arm that draws some takes them from torch's global random state.
        option: the setting of its own that is tuned; None if there is none.
        depends_on_budget: whether the training is another one for another number of steps, as a rate that falls to zero
            at the last step makes it; it then takes a run for every number of steps that is asked about.
        nowcasts: whether weights jump.
        optimizers: makes the optimizers alone, in the order in which they step, for the arm of the same optimizers with
            a nowcaster (``NAME+SOURCE``); None if nothing may jump beside what the arm does.
        weights_sha256: a hash of its nowcaster's weights, so that runs of others are not taken for its own; None if it
            has none.
    """

    name: str
    description: str
    begin: Callable[[nn.Module, Recipe], Trainer]
    option: Option | None = None
    depends_on_budget: bool = False
    nowcasts: bool = False
    optimizers: MakeOptimizers | None = None
    weights_sha256: str | None = None


def optimizer_arm(name: str, description: str, optimizers: MakeOptimizers, option: Option | None = None) -> Arm:
    """An arm that is nothing but optimizers at constant settings; its read-out is the running average.

    Args:
        name: the arm's.
        description: one line.
        optimizers: makes them, in the order in which they step.
        option: the setting of its own that is tuned.

    Returns:
        The arm; nowcasters may be attached to its optimizers.

    Example:
        >>> import torch
        >>> momentum = Option("momentum", default=0.9, values=(0.0, 0.9, 0.99))
        >>> def optimizers(model, recipe):
        ...     return [torch.optim.SGD(model.parameters(), recipe.lr, recipe.value_of(momentum))]
        >>> arm = optimizer_arm("sgd", "SGD with momentum", optimizers, momentum)
        >>> trainer = arm.begin(nn.Linear(2, 2), Recipe(lr=0.1, weight_decay=0.0, steps=10, period=5, window=3))
        >>> trainer.optimizers[0].param_groups[0]["momentum"]
        0.9
        >>> trainer.close()
    """

    def begin(model: nn.Module, recipe: Recipe) -> Trainer:
        return averaging_trainer(model, optimizers(model, recipe), recipe.window)

    return Arm(name=name, description=description, begin=begin, option=option, optimizers=optimizers)
