"""What is known of a tensor's dimensions: which of its numbers belong to which neuron.

A **frame** is an integer tensor that broadcasts to the tensor, and has for each of its numbers a code: the element
(`ninokit.graph.tracing.elements`) whose neuron it belongs to, and a *place* that tells apart the numbers of one
neuron along the dimensions that the frame spans. Operators that move numbers move the codes alike, so most rules of the
tracer run the operator itself on the frames.

If neurons change places, a tensor's numbers change places with their codes: the number with code (neuron, place) goes
to where (other neuron, place) was, at the same index of all dimensions that no frame spans.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Axes", "code", "collapse", "dim_groups", "element_of", "place_of", "rank", "reshape_frame", "spans"]

_PLACE_BITS = 31
_PLACES = 1 << _PLACE_BITS


def code(elements: Tensor, places: Tensor | int = 0) -> Tensor:
    """The codes of elements at places."""
    return (elements << _PLACE_BITS) + places


def element_of(codes: Tensor) -> Tensor:
    """The elements of codes."""
    return codes >> _PLACE_BITS


def place_of(codes: Tensor) -> Tensor:
    """The places of codes."""
    return codes & (_PLACES - 1)


def spans(frame: Tensor) -> tuple[int, ...]:
    """The dimensions along which a frame has more than one code."""
    return tuple(dim for dim, size in enumerate(frame.shape) if size > 1)


@dataclass(frozen=True)
class Axes:
    """What is known of a tensor's dimensions.

    Args:
        shape: the tensor's.
        frames: which of its numbers belong to which neuron; a dimension that none spans is positions, in fixed order.
        alike: for each dimension whether the numbers along it are known to be equal.
        parameters: the parameters from which it is computed, if nothing else but constants went in.
        data: whether the network's inputs went in.
        paired: the elements of two tensors, none of them a weight, of whose products it is made: queries and keys.
        attends: whether it is a softmax of such products.
    """

    shape: tuple[int, ...]
    frames: tuple[Tensor, ...] = ()
    alike: tuple[bool, ...] = ()
    parameters: frozenset[str] = frozenset()
    data: bool = False
    paired: tuple[Tensor, Tensor] | None = None
    attends: bool = False

    @classmethod
    def constant(cls, shape: Sequence[int], *, alike: bool = False) -> Axes:
        """A tensor without neurons; `alike` if all its numbers are equal."""
        return cls(tuple(shape), (), tuple(alike or size == 1 for size in shape))

    @property
    def owned(self) -> bool:
        """Whether it is a weight: computed from parameters and constants alone."""
        return bool(self.parameters) and not self.data

    def from_tensors(self, others: Iterable[Axes]) -> Axes:
        """The same, computed from some tensors."""
        others = list(others)
        data = any(axes.data for axes in others)
        made_of = frozenset[str]().union(*(axes.parameters for axes in others))
        return replace(self, data=data, parameters=frozenset() if data else made_of)

    def is_position(self, dim: int) -> bool:
        """Whether the order along a dimension is fixed: no frame spans it, and its numbers differ."""
        return self.shape[dim] > 1 and not self.alike[dim] and all(frame.shape[dim] == 1 for frame in self.frames)

    def differ(self, dims: Collection[int]) -> Axes:
        """The same with numbers along some dimensions that may differ."""
        alike = tuple(same and (dim not in dims or self.shape[dim] == 1) for dim, same in enumerate(self.alike))
        return replace(self, alike=alike)

    def with_frames(self, frames: Sequence[Tensor]) -> Axes:
        """The same with other frames; those that span nothing are left out."""
        return replace(self, frames=tuple(frame for frame in frames if spans(frame)))

    def align(self, ndim: int) -> Axes:
        """With dimensions of size one before, up to `ndim` in all."""
        more = ndim - len(self.shape)
        ones = (1,) * more
        return replace(
            self,
            shape=ones + self.shape,
            frames=tuple(frame.reshape(ones + tuple(frame.shape)) for frame in self.frames),
            alike=(True,) * more + self.alike,
        )

    def permute(self, order: Sequence[int]) -> Axes:
        """With its dimensions in another order."""
        return replace(
            self,
            shape=tuple(self.shape[dim] for dim in order),
            frames=tuple(frame.permute(*order) for frame in self.frames) if order else self.frames,
            alike=tuple(self.alike[dim] for dim in order),
        )

    def unsqueeze(self, dim: int) -> Axes:
        """With a dimension of size one before `dim`."""
        return replace(
            self,
            shape=(*self.shape[:dim], 1, *self.shape[dim:]),
            frames=tuple(frame.unsqueeze(dim) for frame in self.frames),
            alike=(*self.alike[:dim], True, *self.alike[dim:]),
        )

    def drop(self, dims: Sequence[int]) -> Axes:
        """Without some dimensions, which no frame spans any more."""
        kept = [dim for dim in range(len(self.shape)) if dim not in dims]
        return replace(
            self,
            shape=tuple(self.shape[dim] for dim in kept),
            frames=tuple(frame.reshape([frame.shape[dim] for dim in kept]) for frame in self.frames),
            alike=tuple(self.alike[dim] for dim in kept),
        )

    def expand(self, shape: Sequence[int]) -> Axes:
        """Broadcast to a shape."""
        aligned = self.align(len(shape))
        alike = tuple(old == 1 or same for old, same in zip(aligned.shape, aligned.alike, strict=True))
        return replace(aligned, shape=tuple(shape), alike=alike)

    def reshape(self, shape: Sequence[int]) -> Axes:
        """With its numbers, in the order of memory, under another shape."""
        if tuple(shape) == self.shape:
            return self
        alike = [True] * len(shape)
        for old, new in dim_groups(self.shape, shape):
            same = all(self.alike[dim] for dim in old)
            # Of dimensions that are merged or split and of which only some are alike nothing is known.
            for dim in new:
                alike[dim] = same or shape[dim] == 1
        frames = [collapse(reshape_frame(frame, self.shape, shape)) for frame in self.frames]
        return replace(self, shape=tuple(shape), alike=tuple(alike)).with_frames(frames)


def reshape_frame(frame: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """A frame after a view of its tensor.

    Where dimensions are merged, of which the frame spans some, the indices along the others become part of the place.

    Args:
        frame: broadcasts to `old`.
        old: the tensor's shape.
        new: its new shape.

    Returns:
        A frame that broadcasts to `new`.
    """
    sizes = [1] * len(new)
    for merged, split in dim_groups(old, new):
        if all(frame.shape[dim] == 1 for dim in merged):
            continue
        for dim in merged:
            if frame.shape[dim] == 1 and old[dim] > 1:
                frame = _add_place(frame, dim, old[dim])
        for dim in split:
            sizes[dim] = new[dim]
    return frame.reshape(sizes)


def collapse(frame: Tensor) -> Tensor:
    """A frame without the dimensions along which only the places differ, and differ alike for all neurons."""
    for dim in spans(frame):
        elements, places = element_of(frame), place_of(frame)
        if (elements != elements.narrow(dim, 0, 1)).any():
            continue
        steps = places - places.narrow(dim, 0, 1)
        first = steps
        for other in range(frame.ndim):
            first = first if other == dim else first.narrow(other, 0, 1)
        if (steps == first).all():
            frame = frame.narrow(dim, 0, 1)
    return frame


def _add_place(frame: Tensor, dim: int, size: int) -> Tensor:
    """A frame that spans one more dimension, the index along which becomes part of the place."""
    places = place_of(frame)
    if (int(places.max()) + 1) * size >= _PLACES:
        places = rank(places)
    shape = [1] * frame.ndim
    shape[dim] = size
    return code(element_of(frame), places * size + torch.arange(size).reshape(shape))


def rank(values: Tensor) -> Tensor:
    """Each number as its place among the distinct ones, from 0 up."""
    return torch.unique(values, return_inverse=True)[1]


def dim_groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Which dimensions of a view become which: the smallest runs of the same size on both sides.

    Args:
        old: the shape before.
        new: the shape after, of as many numbers.

    Yields:
        Dimensions of the old shape, and those of the new one that they become.

    Example:
        >>> list(dim_groups((2, 12, 5), (2, 3, 4, 5)))
        [([0], [0]), ([1], [1, 2]), ([2], [3])]
    """
    if 0 in old or math.prod(old) != math.prod(new):
        yield list(range(len(old))), list(range(len(new)))
        return
    i = j = 0
    while i < len(old) or j < len(new):
        # Dimensions of size one on one side alone belong to nothing.
        if i < len(old) and old[i] == 1 and not (j < len(new) and new[j] == 1):
            yield [i], []
            i += 1
            continue
        if j < len(new) and new[j] == 1 and not (i < len(old) and old[i] == 1):
            yield [], [j]
            j += 1
            continue
        left, right, a, b = old[i], new[j], [i], [j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= old[i]
                a.append(i)
                i += 1
            else:
                right *= new[j]
                b.append(j)
                j += 1
        yield a, b
