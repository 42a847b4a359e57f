"""The scaling of a parameter's states, under which nowcasters see all networks alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Scale", "pieces"]

# Keeps a parameter that has not moved, and is the same everywhere, from dividing by zero (published value).
_EPSILON = 1e-6

_PIECE = 2**20  # numbers looked at together: what is made of them is small beside a large parameter


def pieces(states: Tensor) -> Iterator[Tensor]:
    """A parameter's states, some numbers at a time.

    Args:
        states: shape (context, shape…).

    Yields:
        Every number once, shape (at most 2²⁰,).
    """
    several = max(1, _PIECE // max(1, states[0].numel()))
    for part in states.split(several):
        yield from part.reshape(-1).split(_PIECE)


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
    def of(cls, states: Tensor, like: Tensor) -> Scale:
        """The scale of a parameter, computed in float64.

        Args:
            states: shape (context, shape…); the deviation of a single number is 0.
            like: whose device and dtype the scale gets.

        Returns:
            Its mean and deviation.
        """
        mean = squares = torch.zeros((), dtype=torch.float64, device=like.device)
        buffer = mean.new_empty(min(_PIECE, states.numel()))  # many would lie scattered over the heap, and swell it
        count = 0
        for piece in pieces(states):  # Chan et al. 1979: the sums of squared deviations of two samples, joined
            values = buffer[: len(piece)].copy_(piece)
            center = values.mean()
            values -= center  # with its product an eighth of the time of torch.var_mean
            total = count + len(piece)
            squares = squares + values.dot(values) + (center - mean).square() * (count * len(piece) / total)
            mean = mean + (center - mean) * (len(piece) / total)
            count = total
        return cls(mean.to(like), (squares / max(1, count - 1)).sqrt().to(like))

    @classmethod
    def each(cls, states: Tensor) -> Scale:
        """The scales of one parameter in several networks, each its own.

        Args:
            states: shape (stack, context, shape…).

        Returns:
            Means and deviations of shape (stack, 1, 1…), which broadcast over the states.
        """
        values = states.double().flatten(1)
        deviations, means = torch.std_mean(values, dim=1, correction=min(1, values.shape[1] - 1))
        shape = (-1, *[1] * (states.ndim - 1))
        return cls(means.view(shape).to(states), deviations.view(shape).to(states))

    @property
    def moves(self) -> Tensor:
        """Whether the deviation exceeds the guard against zero; if not, a forecast multiplies changes by next to 0."""
        return self.deviation > _EPSILON

    @cached_property
    def _divisor(self) -> Tensor:
        return self.deviation + _EPSILON

    def apply(self, states: Tensor) -> Tensor:
        """Scale states to mean 0 and deviation 1."""
        return (states - self.mean).div_(self._divisor)

    def undo(self, scaled: Tensor) -> Tensor:
        """Return to the parameter's own units.

        As published, the guard against zero is left out here, which makes it an inverse up to a relative
        1e-6 / deviation; with it the published predictions are missed by more than float32's precision.
        """
        return torch.addcmul(self.mean, scaled, self.deviation)
