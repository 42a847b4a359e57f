"""The scaling of a parameter's states, under which nowcasters see all networks alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Scale"]

# Keeps a parameter that has not moved, and is the same everywhere, from dividing by zero (published value).
_EPSILON = 1e-6


@dataclass(frozen=True)
class Scale:
    """The mean and spread of one parameter over all its elements and states.

    Source: Knyazev et al. 2025, their scaling "per layer" at inference.

    Args:
        mean: of all elements and states.
        deviation: unbiased standard deviation of all elements and states.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, states: Tensor) -> Scale:
        """The scale of a parameter.

        Args:
            states: shape (context, shape…), at least two numbers in all.

        Returns:
            Its mean and deviation, computed in float32 at least.
        """
        wide = states if states.itemsize >= 4 else states.float()
        return cls(wide.mean(), wide.std())

    def apply(self, states: Tensor) -> Tensor:
        """Scale states to mean 0 and deviation 1."""
        return (states - self.mean) / (self.deviation + _EPSILON)

    def undo(self, scaled: Tensor) -> Tensor:
        """Return to the parameter's own units.

        As published, the guard against zero is left out here, which makes it an inverse up to a relative
        1e-6 / deviation; with it the published predictions are missed by more than float32's precision.
        """
        return torch.addcmul(self.mean, scaled, self.deviation)  # no other temporary than the result
