"""What a task's score is: its name, how it is counted, and whether higher or lower is better.

Shapes: B examples in a batch, T tokens a sequence, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import Tensor
from torch.nn import functional

# (logits, labels) of a batch: a number.
BatchMeasure = Callable[[Tensor, Tensor], Tensor]


class Better(str, Enum):
    """Which of two scores is the better one. A score that is NaN reaches no target.

    Example:
        >>> Better.LOWER.reaches(1.5, target=1.8), Better.HIGHER.reaches(1.5, target=1.8)
        (True, False)
    """

    HIGHER = "higher"
    LOWER = "lower"

    def reaches(self, score: float, target: float) -> bool:
        """Whether a score is as good as the target or better."""
        return score >= target if self is Better.HIGHER else score <= target


@dataclass(frozen=True)
class Metric:
    """A score that is a mean over labels.

    Args:
        name: as tables and pictures show it, with its unit if it has one.
        better: its direction.
        total: the sum over the labels of a batch, from logits of shape (B, K) or (B, T, K) and class indices of
            shape (B,) or (B, T).
        largest: what it cannot exceed; its lower bound is 0.
    """

    name: str
    better: Better
    total: BatchMeasure
    largest: float = math.inf

    @property
    def targets(self) -> str:
        """Which targets make sense, in words."""
        most = f" and at most {self.largest:g}" if math.isfinite(self.largest) else ""
        return f"a {self.name} above 0{most}"

    def allows(self, target: float) -> bool:
        """Whether a target makes sense."""
        return 0 < target <= self.largest and math.isfinite(target)


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross entropy of a batch.

    Args:
        logits: shape (B, K) or (B, T, K).
        labels: class indices of shape (B,) or (B, T).

    Returns:
        Nats a label, a scalar.
    """
    return functional.cross_entropy(logits.flatten(end_dim=-2), labels.flatten())


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) == labels).sum()


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    # In double precision, so that a sum over many batches keeps its digits.
    return mean_cross_entropy(logits, labels).double() * labels.numel()


ACCURACY = Metric("test accuracy", Better.HIGHER, _correct, largest=1.0)
VALIDATION_LOSS = Metric("validation loss (nats)", Better.LOWER, _nats)
