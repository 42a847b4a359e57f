"""What a trace knows of the indices of dimensions: which are the same neuron, and what binds them.

Every index along a dimension of a parameter is an **element**. The rules of the operators only write facts down here;
what they amount to is worked out once, at the end.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ninokit.graph.kinds import EdgeKind

__all__ = ["Base", "Elements", "Relation", "SliceTie", "Usage", "on_cpu"]

Usage = Literal["linear", "convolution", "token", "position", "norm", "scale", "shift"]


def on_cpu() -> AbstractContextManager[object]:
    """For what the tracer computes: elements are numbers on the processor, whatever torch's default device is."""
    # Only where it is needed, as each operator takes longer in such a context.
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


@dataclass
class Base:
    """A run of elements: the indices of one dimension, or of some that belong together.

    Attributes:
        start: the first element.
        size: number of elements.
        parameter: whose dimension it is; None for neurons that no parameter numbers, such as heads.
        dim: which dimension.
        slices: number of slices of a grouped convolution whose weight has the elements of one slice along `dim`.
        contracted: whether an operator sums over it, with the parameter as weights.
        born: when an operator first wrote to these neurons, counted in operators; None if none has.
        kernel: whether it is positions of a kernel.
        heads: whether it numbers the heads of an attention.
    """

    start: int
    size: int
    parameter: str | None = None
    dim: int = 0
    slices: int = 1
    contracted: bool = False
    born: int | None = None
    kernel: bool = False
    heads: bool = False

    @property
    def range(self) -> range:
        """The elements."""
        return range(self.start, self.start + self.size)


class Relation(NamedTuple):
    """Children that move with their parents: where a parent goes, all its children go.

    Attributes:
        child: elements, shape (n,).
        parent: the parent of each, shape (n,).
        rigid: whether the children of one parent keep their order.
    """

    child: Tensor
    parent: Tensor
    rigid: bool


class SliceTie(NamedTuple):
    """The slices of a grouped convolution: the channels that enter and leave one move with it.

    Attributes:
        entering: elements, shape (slices, channels that enter one).
        leaving: elements, shape (slices, channels that leave one).
    """

    entering: Tensor
    leaving: Tensor


@dataclass
class Elements:
    """All elements of a trace, and the facts about them.

    Attributes:
        bases: in the order of their elements.
        same: pairs of tensors of elements; each pair of elements is one neuron.
        residual: pairs of tensors of elements, an older neuron and the one to which its value is added.
        tied: pairs of tensors of elements that a weight used twice puts in one order.
        relations: children and parents.
        slice_ties: of grouped convolutions.
        fixed: elements that keep their order, and why.
        colours: elements and a number for each; elements of different sums are not interchangeable.
        places: elements of parameters, and at which of its occurrences each reads a neuron.
        kinds: elements and what an attention uses them as.
        usages: parameter → what it is used as first.
    """

    bases: list[Base] = field(default_factory=list)
    same: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    residual: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    tied: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    slice_ties: list[SliceTie] = field(default_factory=list)
    fixed: list[tuple[Tensor, str]] = field(default_factory=list)
    colours: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    places: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    kinds: list[tuple[Tensor, EdgeKind]] = field(default_factory=list)
    usages: dict[str, Usage] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        with on_cpu():
            self._of = torch.empty(0, dtype=torch.int64)  # element → number of its base, grown by doubling
            self._stuck = torch.empty(0, dtype=torch.bool)  # likewise, whether an element is fixed

    def new(self, size: int, parameter: str | None = None, dim: int = 0, **attributes: int | bool) -> Base:
        """Add elements.

        Args:
            size: how many.
            parameter: whose dimension they number.
            dim: which one.
            attributes: further attributes of the base.

        Returns:
            Their base.
        """
        base = Base(self.count, size, parameter, dim, **attributes)  # type: ignore[arg-type]
        stop = base.start + size
        if stop > len(self._of):
            self._of = torch.cat([self._of, torch.zeros(max(stop, 1024), dtype=torch.int64)])
            self._stuck = torch.cat([self._stuck, torch.zeros(max(stop, 1024), dtype=torch.bool)])
        self._of[base.start : stop] = len(self.bases)
        self.bases.append(base)
        self.count = stop
        return base

    def bases_of(self, elements: Tensor) -> list[Base]:
        """The bases to which elements belong, each once."""
        return [self.bases[number] for number in self._of[elements.flatten()].unique().tolist()]

    def births(self, elements: Tensor) -> int:
        """When the youngest of some neurons was first written to; -1 if none was."""
        return max((-1 if base.born is None else base.born for base in self.bases_of(elements)), default=-1)

    def fix(self, elements: Tensor, why: str) -> None:
        """Note that elements keep their order."""
        self.fixed.append((elements, why))
        self._stuck[elements] = True

    def is_fixed(self, elements: Tensor) -> bool:
        """Whether it is known already that elements keep their order."""
        return bool(self._stuck[elements.flatten()].all())

    def is_bound(self, base: Base) -> bool:
        """Whether anything is known of the elements of a base."""
        pairs = [*self.same, *self.residual, *self.tied, *((r.child, r.parent) for r in self.relations)]
        singles = [elements for elements, _ in (*self.fixed, *self.colours)]
        return any(
            bool(((elements >= base.start) & (elements < base.start + base.size)).any())
            for elements in (*(side for pair in pairs for side in pair), *singles)
        )
