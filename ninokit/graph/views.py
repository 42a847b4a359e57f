"""How a parameter's tensor is read, without copying, as the edges of a block.

Shape legend: lead = any leading dimensions (none, or the context states); group, dst, src, tap = the block's slices,
destination and source neurons of a slice, and numbers an edge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ninokit.errors import GraphError

__all__ = ["LABELS", "View", "make_view"]

LABELS = ("group", "dst", "src", "tap")
_AXIS = re.compile(r"\(([^()]*)\)|(\S+)")

Factor = tuple[str, int]
Window = tuple[int, int]


@dataclass(frozen=True)
class View:
    """A parameter (or a window of it) as a tensor of shape (group, dst, src, tap).

    Only slices, splits, permutations and merges of neighbouring dimensions: the result shares the parameter's
    memory, so that a prediction is written back through the same view.

    Args:
        factors: for each axis of the parameter its factors (label, size), outermost first.
        window: for each axis of the parameter the range (start, stop) that the block covers.
        taps: the range (start, stop) of the taps that the block covers.
    """

    factors: tuple[tuple[Factor, ...], ...]
    window: tuple[Window, ...]
    taps: Window

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The sizes (group, dst, src, tap)."""
        group, dst, src, _ = (_size(self.factors, label) for label in LABELS)
        return group, dst, src, self.taps[1] - self.taps[0]

    def __call__(self, tensor: Tensor) -> Tensor:
        """Read a tensor through the view.

        Args:
            tensor: shape (lead…, parameter's shape…).

        Returns:
            The same memory as a tensor of shape (lead…, group, dst, src, tap).
        """
        lead = tensor.ndim - len(self.factors)
        flat = [factor for axis in self.factors for factor in axis]
        for axis, (start, stop) in enumerate(self.window):
            tensor = tensor.narrow(lead + axis, start, stop - start)
        split = tensor.view((*tensor.shape[:lead], *(size for _, size in flat)))  # tuples: a scalar has no axis
        order = [lead + i for label in LABELS for i, (name, _) in enumerate(flat) if name == label]
        ones = [lead + i for i, (name, _) in enumerate(flat) if name == "1"]
        ordered = split.permute((*range(lead), *order, *ones))
        sizes = (_size(self.factors, label) for label in LABELS)
        return ordered.view(*tensor.shape[:lead], *sizes)[..., self.taps[0] : self.taps[1]]


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
        window: axis → (start, stop), for a block that is a slice of its parameter.

    Returns:
        The view; it covers all taps.

    Raises:
        GraphError: if the labels don't fit the shape and the expected sizes, or would need a copy.

    Example:
        >>> view = make_view((16, 12), "dst src", expected={"group": 1, "dst": 16, "src": 12})
        >>> view.shape
        (1, 16, 12, 1)
    """
    labels = [(inner or outer).split() for inner, outer in _AXIS.findall(axes)]
    unknown = sorted({label for axis in labels for label in axis} - {*LABELS, "1"})
    if unknown:
        raise GraphError(f"axes {axes!r} use {unknown}; the labels are {[*LABELS, '1']}")
    if len(labels) != len(shape):
        raise GraphError(f"axes {axes!r} name {len(labels)} axes, but the shape {tuple(shape)} has {len(shape)}")
    bounds = _window(shape, window or {})
    factors = tuple(
        _factors(axis, stop - start, expected, axes, shape) for axis, (start, stop) in zip(labels, bounds, strict=True)
    )
    for label, size in expected.items():
        if _size(factors, label) != size:
            raise GraphError(
                f"shape {tuple(shape)} read as {axes!r} has size {_size(factors, label)} in {label!r}, expected {size}"
            )
    view = View(factors, bounds, (0, _size(factors, "tap")))
    try:
        view(torch.empty(tuple(shape), device="meta"))
    except RuntimeError as error:
        raise GraphError(
            f"shape {tuple(shape)} read as {axes!r} needs a copy, because axes of one label are not "
            f"neighbours in memory; describe it as several blocks, with a window each"
        ) from error
    return view


def _window(shape: Sequence[int], window: Mapping[int, Window]) -> tuple[Window, ...]:
    for axis, (start, stop) in window.items():
        if not (0 <= axis < len(shape) and 0 <= start < stop <= shape[axis]):
            raise GraphError(f"window {start}:{stop} on axis {axis} does not lie inside the shape {tuple(shape)}")
    return tuple(window.get(axis, (0, size)) for axis, size in enumerate(shape))


def _factors(
    labels: Sequence[str], size: int, expected: Mapping[str, int], axes: str, shape: Sequence[int]
) -> tuple[Factor, ...]:
    """Sizes of one axis's factors: a lone label has the axis's size, else ``tap`` takes what the others leave."""
    if len(labels) == 1 and labels[0] != "1":
        return ((labels[0], size),)
    known = math.prod(expected.get(label, 1) for label in labels)
    if labels.count("tap") > 1 or size % known or ("tap" not in labels and size != known):
        raise GraphError(
            f"shape {tuple(shape)} read as {axes!r}: an axis of size {size} does not split into "
            f"{' × '.join(f'{label}={expected.get(label, 1)}' for label in labels if label != 'tap')}"
            f"{' × taps' if 'tap' in labels else ''}"
        )
    return tuple((label, size // known if label == "tap" else expected.get(label, 1)) for label in labels)


def _size(factors: Sequence[Sequence[Factor]], label: str) -> int:
    return math.prod(size for axis in factors for name, size in axis if name == label)
