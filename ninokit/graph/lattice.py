"""Which indices along one axis of a parameter a block of edges reads: a lattice, digit by digit.

The digits (d₁, …, dₙ) of an axis, outermost first, stand for the index start + d₁·stride₁ + … + dₙ·strideₙ. No index
has two spellings, since every digit steps over all that those inside of it reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ninokit.errors import GraphError

__all__ = ["LABELS", "Axis", "Digit"]

LABELS = ("group", "dst", "src", "tap")


class Digit(NamedTuple):
    """A factor of an axis.

    Args:
        label: what it counts, one of ``group``, ``dst``, ``src`` and ``tap``, or ``1`` for nothing, at size one.
        size: how many values it has.
        stride: how many indices lie between two of them.
    """

    label: str
    size: int
    stride: int = 1


@dataclass(frozen=True)
class Axis:
    """The indices along an axis that a block reads.

    Args:
        start: the first.
        digits: what they count, outermost first, at least one.

    Raises:
        GraphError: if a label, a size or a stride is out of its range, or if a digit's stride is too short for those
            inside of it.

    Example:
        >>> Axis(16, (Digit("group", 2, 48), Digit("dst", 3))).indices().tolist()  # the keys of two interleaved heads
        [16, 17, 18, 64, 65, 66]
    """

    start: int
    digits: tuple[Digit, ...]

    def __post_init__(self) -> None:
        if self.start < 0 or not self.digits:
            raise GraphError(f"axis: expected a start of at least 0 and at least one digit, got {self}")
        reach = 0
        for label, size, stride in reversed(self.digits):
            if label not in LABELS and (label, size) != ("1", 1):
                raise GraphError(f"axis: the labels are {[*LABELS]}, and '1' at size 1; got {label!r} at size {size}")
            if size < 1 or stride < 1:
                raise GraphError(f"axis: expected sizes and strides of at least 1, got {label!r} at {size} × {stride}")
            if size > 1 and stride <= reach:
                raise GraphError(
                    f"axis: the stride {stride} of {label!r} is too short for the digits inside of it, which reach "
                    f"{reach} indices further"
                )
            reach += (size - 1) * stride

    @classmethod
    def split(cls, factors: Sequence[tuple[str, int]], start: int = 0, step: int = 1) -> Axis:
        """Split an axis, or a window of it, into factors.

        Args:
            factors: label and size of each, outermost first.
            start: the first index.
            step: the indices from one to the next.

        Returns:
            The axis; its strides are the products of the sizes further in.

        Example:
            >>> Axis.split([("group", 2), ("dst", 3)]).digits
            (Digit(label='group', size=2, stride=3), Digit(label='dst', size=3, stride=1))
        """
        digits: list[Digit] = []
        for label, size in reversed(factors):
            digits.insert(0, Digit(label, size, step))
            step *= size
        return cls(start, tuple(digits))

    @property
    def size(self) -> int:
        """How many indices it reads."""
        return math.prod(digit.size for digit in self.digits)

    @property
    def span(self) -> int:
        """How many indices lie between the first and the last, both counted."""
        return 1 + sum((digit.size - 1) * digit.stride for digit in self.digits)

    @property
    def stop(self) -> int:
        """The index behind the last."""
        return self.start + self.span

    @property
    def consecutive(self) -> bool:
        """Whether it reads all between the first and the last."""
        return self.size == self.span

    def indices(self) -> npt.NDArray[np.int64]:
        """All indices, ascending, shape (size,)."""
        steps = [np.arange(digit.size, dtype=np.int64) * digit.stride for digit in self.digits]
        return self.start + reduce(lambda outer, inner: np.add.outer(outer, inner).ravel(), steps)
