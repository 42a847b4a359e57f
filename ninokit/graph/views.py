"""How a parameter's tensor is read, without copying, as the edges of a block.

Shape legend: lead = any leading dimensions (none, or the context states); group, dst, src, tap = the block's slices,
destination and source neurons of a slice, and numbers an edge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from operator import mul

from torch import Tensor

from ninokit.errors import GraphError
from ninokit.graph.lattice import LABELS, Axis

__all__ = ["View", "Window", "make_view"]

_AXIS = re.compile(r"\(([^()]*)\)|(\S+)")
_RANKS = {label: rank for rank, label in enumerate((*LABELS, "1"))}

Window = tuple[int, int] | tuple[int, int, int]


@dataclass(frozen=True)
class View:
    """A parameter (or a lattice of its numbers) as a tensor of shape (group, dst, src, tap).

    Only slices, splits, permutations and merges of neighbouring dimensions: the result shares the parameter's
    memory, so that a prediction is written back through the same view. `View.of` checks that it fits a parameter.

    Args:
        axes: for each axis of the parameter the indices that the block reads, and what they count. The digits of one
            label count together, outermost first.
        taps: the range (start, stop) of the taps that the block covers.

    Raises:
        GraphError: if there are no such taps.
    """

    axes: tuple[Axis, ...]
    taps: tuple[int, int]

    def __post_init__(self) -> None:
        start, stop = self.taps
        if not 0 <= start < stop <= _size(self.axes, "tap"):
            raise GraphError(f"taps {start}:{stop} do not lie inside the {_size(self.axes, 'tap')} of {self.spelled!r}")

    @classmethod
    def of(cls, shape: Sequence[int], axes: Sequence[Axis], taps: tuple[int, int] | None = None) -> View:
        """A view of a parameter, checked.

        Args:
            shape: the parameter's shape.
            axes: for each of its axes the indices to read.
            taps: the range (start, stop) of the taps to cover; left out, all.

        Returns:
            The view.

        Raises:
            GraphError: if an index lies outside of the shape, there are no such taps, or the digits of one label
                would need a copy.

        Example:
            >>> import torch
            >>> from ninokit.graph.lattice import Axis, Digit
            >>> rows = Axis(1, (Digit("group", 2, 3), Digit("dst", 2)))  # the last two of every three
            >>> View.of((6, 1), [rows, Axis.split([("src", 1)])])(torch.arange(6)[:, None]).tolist()
            [[[[1]], [[2]]], [[[4]], [[5]]]]
        """
        view = cls(tuple(axes), (0, _size(axes, "tap")) if taps is None else taps)
        if len(axes) != len(shape):
            raise GraphError(f"{len(axes)} axes {view.spelled!r} for the shape {tuple(shape)}, which has {len(shape)}")
        for number, (axis, size) in enumerate(zip(axes, shape, strict=True)):
            if axis.stop > size:
                raise GraphError(
                    f"shape {tuple(shape)} read as {view.spelled!r}: axis {number} has no index {axis.stop - 1}"
                )
        if view.needs_copy(shape):
            raise GraphError(
                f"shape {tuple(shape)} read as {view.spelled!r} needs a copy, because axes of one label are not "
                f"neighbours in memory; describe it as several blocks, with a window each"
            )
        return view

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """The sizes (group, dst, src, tap)."""
        group, dst, src, _ = (_size(self.axes, label) for label in LABELS)
        return group, dst, src, self.taps[1] - self.taps[0]

    @property
    def all_taps(self) -> bool:
        """Whether the block covers all taps of its axes."""
        return self.taps == (0, _size(self.axes, "tap"))

    @property
    def window(self) -> tuple[tuple[int, int], ...]:
        """For each axis of the parameter the range (start, stop) that the block lies in."""
        return tuple((axis.start, axis.stop) for axis in self.axes)

    @property
    def spelled(self) -> str:
        """The labels of the axes, as authors of encoders write them."""
        axes = [" ".join(digit.label for digit in axis.digits) for axis in self.axes]
        return " ".join(f"({axis})" if " " in axis else axis for axis in axes)

    def needs_copy(self, shape: Sequence[int]) -> bool:
        """Whether digits of one label don't follow each other in the memory of a parameter.

        Args:
            shape: the parameter's shape; it is contiguous.

        Returns:
            Whether the view can't read it.
        """
        memory = [*accumulate(reversed(shape[1:]), mul, initial=1)][::-1]
        for label in LABELS:
            steps = [
                (digit.size, digit.stride * step)
                for axis, step in zip(self.axes, memory, strict=False)  # a scalar has no axis
                for digit in axis.digits
                if digit.label == label and digit.size > 1
            ]
            if any(outer != size * inner for (_, outer), (size, inner) in pairwise(steps)):
                return True
        return False

    def __call__(self, tensor: Tensor) -> Tensor:
        """Read a tensor through the view.

        Args:
            tensor: shape (lead…, parameter's shape…).

        Returns:
            The same memory as a tensor of shape (lead…, group, dst, src, tap).
        """
        lead = tensor.shape[: tensor.ndim - len(self.axes)]
        for number, axis in enumerate(self.axes):
            tensor = _split(tensor, len(lead) + number, axis)
        ordered = tensor.permute((*range(len(lead)), *(len(lead) + place for place in self._order)))
        sizes = (_size(self.axes, label) for label in LABELS)
        return ordered.view((*lead, *sizes))[..., self.taps[0] : self.taps[1]]

    @cached_property
    def _order(self) -> list[int]:
        """The dimensions that `_split` leaves of all axes (digits outermost first), by label."""
        firsts = [(_RANKS[axis.digits[0].label], number, 0) for number, axis in enumerate(self.axes)]
        others = [
            (_RANKS[digit.label], number, place)
            for number, axis in enumerate(self.axes)
            for place, digit in enumerate(axis.digits[1:], 1)
        ]
        places = [*firsts, *others]
        return sorted(range(len(places)), key=places.__getitem__)


def make_view(
    shape: Sequence[int],
    axes: str,
    *,
    expected: Mapping[str, int],
    window: Mapping[int, Window] | None = None,
) -> View:
    """Plan how a parameter of a shape is read as edges.

    Args:
        shape: the parameter's shape.
        axes: a label an axis, as in einops: ``"dst src"`` for a linear weight, ``"(group dst) src tap tap"`` for a
            convolution's, ``"dst (src tap)"`` for a linear weight after flattening; ``1`` for an axis of size one.
        expected: the sizes of ``group``, ``dst`` and ``src`` (neurons a slice).
        window: axis → (start, stop) or (start, stop, step), for a block that is a slice of its parameter.

    Returns:
        The view; it covers all taps.

    Raises:
        GraphError: if the labels don't fit the shape and the expected sizes, or would need a copy.

    Example:
        >>> view = make_view((16, 12), "dst src", expected={"group": 1, "dst": 16, "src": 12})
        >>> view.shape
        (1, 16, 12, 1)
    """
    labels = [(inner or outer).split() or ["1"] for inner, outer in _AXIS.findall(axes)]
    unknown = sorted({label for axis in labels for label in axis} - {*LABELS, "1"})
    if unknown:
        raise GraphError(f"axes {axes!r} use {unknown}; the labels are {[*LABELS, '1']}")
    if len(labels) != len(shape):
        raise GraphError(f"axes {axes!r} name {len(labels)} axes, but the shape {tuple(shape)} has {len(shape)}")
    ranges = _ranges(shape, window or {})
    planned = [
        Axis.split(_factors(axis, len(indices), expected, axes, shape), indices.start, indices.step)
        for axis, indices in zip(labels, ranges, strict=True)
    ]
    for label, size in expected.items():
        if _size(planned, label) != size:
            raise GraphError(
                f"shape {tuple(shape)} read as {axes!r} has size {_size(planned, label)} in {label!r}, expected {size}"
            )
    return View.of(shape, planned)


def _ranges(shape: Sequence[int], window: Mapping[int, Window]) -> list[range]:
    ranges = [range(size) for size in shape]
    for axis, bounds in window.items():
        start, stop, step = bounds if len(bounds) == 3 else (*bounds, 1)
        spelled = f"window {':'.join(map(str, bounds))} on axis {axis}"
        if not (0 <= axis < len(shape) and 0 <= start < stop <= shape[axis]):
            raise GraphError(f"{spelled} does not lie inside the shape {tuple(shape)}")
        if step < 1:
            raise GraphError(f"{spelled} has a step below 1")
        ranges[axis] = range(start, stop, step)
    return ranges


def _factors(
    labels: Sequence[str], size: int, expected: Mapping[str, int], axes: str, shape: Sequence[int]
) -> list[tuple[str, int]]:
    """Sizes of one axis's factors: a lone label has the axis's size, else ``tap`` takes what the others leave."""
    if len(labels) == 1 and labels[0] != "1":
        return [(labels[0], size)]
    known = math.prod(expected.get(label, 1) for label in labels)
    if labels.count("tap") > 1 or size % known or ("tap" not in labels and size != known):
        raise GraphError(
            f"shape {tuple(shape)} read as {axes!r}: an axis of size {size} does not split into "
            f"{' × '.join(f'{label}={expected.get(label, 1)}' for label in labels if label != 'tap')}"
            f"{' × taps' if 'tap' in labels else ''}"
        )
    return [(label, size // known if label == "tap" else expected.get(label, 1)) for label in labels]


def _split(tensor: Tensor, dim: int, axis: Axis) -> Tensor:
    """Cut a dimension into an axis's digits: the outermost stays in its place, the others follow at the end."""
    span = axis.span
    tensor = tensor.narrow(dim, axis.start, span)
    for digit in axis.digits[:-1]:
        span -= (digit.size - 1) * digit.stride  # of the digits inside
        tensor = tensor.unfold(dim, span, digit.stride)
        dim = tensor.ndim - 1
    step = axis.digits[-1].stride
    return tensor if step == 1 else tensor[(slice(None),) * dim + (slice(None, None, step),)]


def _size(axes: Sequence[Axis], label: str) -> int:
    return math.prod(digit.size for axis in axes for digit in axis.digits if digit.label == label)
