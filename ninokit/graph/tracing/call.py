"""One operator of a trace, as its rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ninokit.graph.tracing.algebra import Algebra
from ninokit.graph.tracing.axes import Axes

__all__ = ["Call", "Rule"]


@dataclass(frozen=True)
class Call:
    """One operator that ran.

    Attributes:
        function: the operator, as ``torch.ops.aten.add.Tensor``.
        args: its arguments, all by position as far as its schema has them.
        output: what it returned.
        algebra: where facts about neurons are noted.
        lookup: a tensor → its axes.
        annotate: notes other axes for a tensor.
        in_place: whether it writes into its first argument.
    """

    function: Any
    args: tuple[Any, ...]
    output: Any
    algebra: Algebra
    lookup: Callable[[Tensor], Axes]
    annotate: Callable[[Tensor, Axes], None]
    in_place: bool = False

    def axes(self, index: int) -> Axes:
        """The axes of a tensor argument; of a number, those of a scalar."""
        value = self.args[index]
        return self.lookup(value) if isinstance(value, Tensor) else Axes(())

    def dims(self, index: int, ndim: int) -> list[int]:
        """A dimension argument, one or several, none negative; all dimensions if it is left out or empty."""
        value = self.args[index] if index < len(self.args) else None
        if value is None or (isinstance(value, (list, tuple)) and not value):
            return list(range(ndim))
        return [dim % max(ndim, 1) for dim in ([value] if isinstance(value, int) else value)]

    @property
    def shape(self) -> torch.Size:
        """The shape of the (first) output."""
        first = self.output[0] if isinstance(self.output, (tuple, list)) else self.output
        return first.shape

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        found: list[Tensor] = []
        for value in self.args:
            found += [v for v in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(v, Tensor)]
        return found


# The axes of the outputs: of the first one, or of all.
Rule = Callable[[Call], "Axes | Sequence[Axes | None]"]
