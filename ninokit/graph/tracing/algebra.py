"""How the neurons of tensors meet: what the rules of the operators are made of.

Whatever is not understood is *pinned*: its order is declared fixed, which claims less and is never wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ninokit.graph.tracing.axes import Axes, code, dim_groups, element_of, place_of, rank, spans
from ninokit.graph.tracing.elements import Elements, Relation, Usage

__all__ = ["Algebra"]

Mode = Literal["add", "multiply", "tie"]
_Pairs = list[tuple[Tensor, Tensor]]
_Joined = tuple[Tensor | None, Tensor | None, list[Tensor]]
_MIX = 0x9E3779B97F4A7C15
_LEFT, _RIGHT = frozenset({"left"}), frozenset({"right"})


@dataclass(frozen=True, eq=False)
class _Met:
    """A frame on its way through a meeting.

    Attributes:
        frame: the frame.
        of: the tensors whose numbers move with it.
        owned: whether they are weights.
    """

    frame: Tensor
    of: frozenset[object]
    owned: bool

    def meets(self, other: _Met) -> bool:
        """Whether a tensor has one of two frames and lacks the other, along a dimension of both."""
        return self.of != other.of and not set(spans(self.frame)).isdisjoint(spans(other.frame))


@dataclass
class Algebra:
    """The operations on axes, which write what they find out into the elements.

    Args:
        elements: where to.

    Attributes:
        now: the number of the operator that is looked at.
    """

    elements: Elements
    now: int = 0
    _derived: dict[tuple[bytes, tuple[int, ...], tuple[int, ...]], Tensor | None] = field(default_factory=dict)

    def pin(self, axes: Axes, dims: Collection[int], why: str) -> Axes:
        """Fix the order along some dimensions.

        Args:
            axes: of a tensor.
            dims: which dimensions.
            why: for the elements that are fixed.

        Returns:
            The axes, of which no frame spans these dimensions.
        """
        frames = []
        for frame in axes.frames:
            if not set(dims) & set(spans(frame)):
                frames.append(frame)
                continue
            outer = self._derive(frame, [dim for dim in spans(frame) if dim not in dims], rigid=True, why=why)
            frames += [] if outer is None else [outer]
        return axes.with_frames(frames)

    def reshape(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """View a tensor under another shape.

        Where dimensions are merged, neurons of several frames may come to lie along one; of these one frame is kept,
        and the order of the others is fixed along what it does not span.

        Args:
            axes: of the tensor.
            shape: of as many numbers.

        Returns:
            The axes of the view.
        """
        frames = list(axes.frames)
        for merged, _ in dim_groups(axes.shape, shape):
            if len(merged) > 1 and len(frames) > 1:
                frames = self._untangle(frames, set(merged))
        return axes.with_frames(frames).reshape(shape)

    def pin_all(self, axes: Axes, why: str) -> None:
        """Fix the order along all dimensions of a tensor."""
        for frame in axes.frames:
            self.fix(frame, why)

    def fix(self, frame: Tensor, why: str) -> None:
        """Fix the order of all neurons of a frame."""
        self.elements.fix(element_of(frame).unique(), why)

    def slices(self, axes: Axes, dims: Collection[int]) -> Axes:
        """Bind what lies along some dimensions, as a sum over them does that goes back to each of them.

        Args:
            axes: of a tensor.
            dims: along which numbers act on each other, whatever their order, as in a softmax or a norm.

        Returns:
            The axes; neurons along these dimensions move with what they belong to along the others.
        """
        frames = []
        for frame in axes.frames:
            outer = [dim for dim in spans(frame) if dim not in dims]
            bound = not (set(dims) & set(spans(frame)) and outer) or self._derive(frame, outer) is not None
            frames += [frame] if bound else []
        return axes.with_frames(frames)

    def reduce(self, axes: Axes, dims: Collection[int], *, keepdim: bool = False) -> Axes:
        """Sum over some dimensions, or whatever else does not ask for their order.

        Args:
            axes: of a tensor.
            dims: which dimensions, none negative.
            keepdim: whether they stay, with size one.

        Returns:
            The axes of the result.
        """
        frames = []
        for frame in axes.frames:
            kept = [dim for dim in spans(frame) if dim not in dims]
            if len(kept) == len(spans(frame)):
                frames.append(frame)
            elif kept:
                outer = self._derive(frame, kept)
                frames += [] if outer is None else [outer]
        shape = tuple(1 if dim in dims else size for dim, size in enumerate(axes.shape))
        alike = tuple(dim in dims or same for dim, same in enumerate(axes.alike))
        reduced = replace(axes, shape=shape, alike=alike).with_frames(frames)
        return reduced if keepdim else reduced.drop(list(dims))

    def elementwise(
        self, operands: Sequence[Axes], mode: Mode = "multiply", usage: Usage | None = None, *, stay: bool = False
    ) -> Axes:
        """Numbers at the same index meet, after broadcasting.

        Args:
            operands: the axes of the tensors.
            mode: ``add`` where values are added, so that neurons go on as others; ``tie`` where a weight that is used
                twice puts them in the order of others.
            usage: what parameters among the operands are used as.
            stay: whether the result is in the memory of the first operand, and its neurons are called the same.

        Returns:
            The axes of the result.
        """
        ndim = max(len(axes.shape) for axes in operands)
        first, *others = (axes.align(ndim) for axes in operands)
        for other in others:
            first = self._meet(first, other, mode, usage, stay=stay)
        return first

    def beside(
        self,
        operands: Sequence[Axes],
        dims: Collection[int],
        shape: Sequence[int],
        mode: Mode = "multiply",
        usage: Usage | None = None,
        *,
        stay: bool = False,
    ) -> Axes:
        """Numbers that meet at an index of their own along some dimensions, and at the same one along the others.

        Args:
            operands: the axes of the tensors; one with other numbers along a dimension than the result has has only
                some of them.
            dims: the dimensions of the result along which nothing is known of where they meet.
            shape: the result's.
            mode: see `elementwise`.
            usage: see `elementwise`.
            stay: see `elementwise`.

        Returns:
            The axes of the result.
        """
        met = self.elementwise([self._thin(axes, dims, shape) for axes in operands], mode, usage, stay=stay)
        alike = tuple(size == 1 if dim in dims else met.alike[dim] for dim, size in enumerate(shape))
        return replace(met, shape=tuple(shape), alike=alike)

    def _thin(self, axes: Axes, dims: Collection[int], shape: Sequence[int]) -> Axes:
        """With one index along some dimensions, and in fixed order along those of which it has a part."""
        axes = axes.align(len(shape))
        parts = [d for d, size in enumerate(shape) if axes.shape[d] not in (1, size) and d not in dims]
        pinned = self.pin(axes, [*dims, *parts], "found by index")
        thin = tuple(1 if dim in dims else size for dim, size in enumerate(shape))
        alike = tuple(dim in dims or (same and dim not in parts) for dim, same in enumerate(axes.alike))
        return replace(pinned, shape=thin, alike=alike)

    def label(self, axes: Axes, dim: int, why: str | None = "input") -> Axes:
        """Number the indices along a dimension that has no neurons.

        Args:
            axes: of a tensor.
            dim: a dimension that no frame spans.
            why: why their order is fixed; None if it is not.

        Returns:
            The axes, with one more frame.
        """
        base = self.elements.new(axes.shape[dim])
        shape = [1] * len(axes.shape)
        shape[dim] = base.size
        frame = code(torch.arange(base.start, base.start + base.size)).reshape(shape)
        if why is not None:
            self.fix(frame, why)
        return axes.with_frames([*axes.frames, frame])

    def select(self, before: Tensor, after: Tensor) -> None:
        """Tell apart the neurons of a frame by which of their places are left after some are cut away.

        Args:
            before: a frame.
            after: codes of some of its numbers.
        """
        if after.numel() == before.numel():
            return
        elements = element_of(after).flatten()
        if elements.numel():
            self._colour(elements, place_of(after).flatten(), self._salt())

    def produce(self, axes: Axes) -> None:
        """Mark the neurons of the frames of a weight as written to by this operator."""
        for frame in axes.frames:
            for base in self.elements.bases_of(element_of(frame)):
                base.born = self.now if base.born is None else base.born

    def use(self, axes: Axes, usage: Usage) -> None:
        """Note what the parameters of a weight are used as, if it is the first use."""
        for name in axes.parameters:
            self.elements.usages.setdefault(name, usage)

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Make elements the same neurons, one by one."""
        one, other = _distinct_pairs(first.flatten(), second.flatten())
        differ = one != other
        if differ.any():
            self.elements.same.append((one[differ], other[differ]))

    def _untangle(self, frames: Sequence[Tensor], dims: set[int]) -> list[Tensor]:
        """Frames of which each two span the same of some dimensions, or one of them more than the other, or none."""
        kept: list[Tensor] = []
        for frame in sorted(frames, key=self._worth, reverse=True):
            own = set(spans(frame)) & dims
            others = [set(spans(other)) & dims for other in kept]
            clashes = [other for other in others if own and other and not (own <= other or other <= own)]
            extra = own - set[int]().union(*clashes) if clashes else set()
            outer = [dim for dim in spans(frame) if dim not in extra]
            pinned = self._derive(frame, outer, rigid=True, why="merged with other neurons") if extra else frame
            kept += [] if pinned is None else [pinned]
        return kept

    def _worth(self, frame: Tensor) -> tuple[bool, bool, int]:
        """Which of several frames is rather kept: neurons that may move, of parameters, and many."""
        elements = element_of(frame)
        numbered = any(base.parameter is not None for base in self.elements.bases_of(elements))
        return not self.elements.is_fixed(elements), numbered, frame.numel()

    # How two tensors meet.

    def _meet(self, left: Axes, right: Axes, mode: Mode, usage: Usage | None, *, stay: bool) -> Axes:
        if usage is not None and (left.data or right.data):
            for axes in (left, right):
                self.use(axes, usage)
        ndim = len(left.shape)
        fixed = (
            {dim for dim in range(ndim) if left.is_position(dim)},
            {dim for dim in range(ndim) if right.is_position(dim)},
        )
        left = self._meet_positions(left, fixed[1])
        right = self._meet_positions(right, fixed[0])
        sums = None
        if mode != "multiply" and not left.owned and not right.owned:
            sums = self.elements.residual if mode == "add" else self.elements.tied
        frames, separated = self._join_all(left.frames, right.frames, sums, (left.owned, right.owned), stay=stay)
        shape = tuple(max(a, b) if 0 not in (a, b) else 0 for a, b in zip(left.shape, right.shape, strict=True))
        alike = tuple(a and b for a, b in zip(left.alike, right.alike, strict=True))
        paired, attends = left.paired or right.paired, left.attends or right.attends
        met = Axes(shape, (), alike, paired=paired, attends=attends).from_tensors([left, right]).with_frames(frames)
        return self.pin(met, separated, "meets another order")

    def _meet_positions(self, axes: Axes, dims: Collection[int]) -> Axes:
        """Fix the order along some dimensions; neurons that lie along these alone stay neurons."""
        frames: list[Tensor] = []
        for frame in axes.frames:
            if set(spans(frame)) <= set(dims):
                self.fix(frame, "meets positions")
                frames.append(frame)
            else:
                frames += self.pin(axes.with_frames([frame]), dims, "meets positions").frames
        return axes.with_frames(frames)

    def _join_all(
        self,
        left: Sequence[Tensor],
        right: Sequence[Tensor],
        sums: _Pairs | None,
        owned: tuple[bool, bool],
        *,
        stay: bool,
    ) -> tuple[list[Tensor], set[int]]:
        """Frames of two tensors, each of one met with each of the other that spans a dimension of it.

        Returns:
            What is left of them, and the dimensions along which neurons keep their order that no frame has any more.
        """
        separated: set[int] = set()
        shared = [frame for frame in left if _is_among(frame, right)]
        met = [_Met(frame, _LEFT, owned[0]) for frame in left if not _is_among(frame, right)]
        waiting = [_Met(frame, _RIGHT, owned[1]) for frame in right if not _is_among(frame, left)]
        # A frame of both goes with what else one of them has along its dimensions, and the other lacks.
        waiting += [_Met(frame, _LEFT | _RIGHT, all(owned)) for frame in shared]
        while waiting:
            new = waiting.pop()
            for known in sorted(met, key=lambda one: one.frame.numel(), reverse=True):  # the rest belongs to these
                if not known.meets(new):
                    continue
                one, other = (new, known) if known.of == _RIGHT or new.of == _LEFT else (known, new)
                added = sums if len(one.of) == len(other.of) == 1 else None
                ends = (one.owned, other.owned)
                *kept, again = self._join(one.frame, other.frame, sums=added, owned=ends, stay=stay)
                if kept[0] is one.frame and kept[1] is other.frame:
                    continue  # they have something in common, and are two still
                met.remove(known)
                if kept == [None, None]:
                    left_over = {dim for frame in again for dim in spans(frame)}
                    separated |= {*spans(one.frame), *spans(other.frame)} - left_over
                waiting += [_Met(frame, one.of | other.of, all(ends)) for frame in kept if frame is not None]
                waiting += [_Met(frame, frozenset({object()}), owned=False) for frame in again]
                break
            else:
                met.append(new)
        return [one.frame for one in met], separated

    def _join(
        self, left: Tensor, right: Tensor, *, sums: _Pairs | None, owned: tuple[bool, bool], stay: bool
    ) -> _Joined:
        """Two frames that span a dimension in common: what is left of each, and what has to be met anew."""
        if torch.equal(left, right):
            return left, None, []
        a, b = set(spans(left)), set(spans(right))
        if not (a <= b or b <= a):
            return self._join_partly(left, right)
        big, small = torch.broadcast_tensors(left, right)
        e, f = element_of(big).flatten(), element_of(small).flatten()
        to_right, to_left = _is_function(e, f), _is_function(f, e)
        if to_right and to_left:
            return self._join_evenly(left, right, sums=sums, owned=owned, stay=stay)
        joined: _Joined | None = None
        if to_right:
            joined = self._join_finer(left, right, weight=owned[0] and a == b)
        elif to_left:
            turned = self._join_finer(right, left, weight=owned[1] and a == b)
            joined = turned and (turned[1], turned[0], turned[2])
        elif a != b:
            joined = self._join_inside(left, right)
        return joined or (None, None, self._separate(left, right, a & b))

    def _join_finer(self, fine: Tensor, coarse: Tensor, *, weight: bool) -> _Joined | None:
        """A frame several of whose neurons stand where another has one: these belong to it.

        A weight reads one neuron at several places; then they are that neuron. None if the neurons that would belong
        to one are not in a row.
        """
        big, small = torch.broadcast_tensors(fine, coarse)
        if weight:
            self.tie(element_of(big), element_of(small))
            self._place(big, small, (True, False))
            return None, coarse, []
        if not _in_runs(element_of(big).flatten(), element_of(small).flatten()):
            return None
        self._belong(big, small)
        return fine, None, []

    def _belong(self, fine: Tensor, coarse: Tensor) -> None:
        """The neurons of one frame belong to those of another, at whose places they stand in their order."""
        child, parent = element_of(fine).flatten(), element_of(coarse).flatten()
        own, places = rank(place_of(fine).flatten()), rank(place_of(coarse).flatten())
        alone = _is_function(own, places)  # places that say nothing of which child it is
        number = _number_of_child(child, parent) * (int(own.max()) + 1) + own
        ordered = not alone and _is_function(number, places)
        if not alone and not ordered:
            self._compare_places(fine, coarse)
        self._relate(child, parent, rigid=ordered)

    def _join_inside(self, left: Tensor, right: Tensor) -> _Joined:
        """A frame that spans all that another does and more: what its neurons belong to meets the other."""
        outer, inner = (left, right) if len(spans(left)) > len(spans(right)) else (right, left)
        part = self._derive(outer, spans(inner))
        again: list[Tensor] = []
        if part is not None:
            *_, again = self._join(part, inner, sums=None, owned=(False, False), stay=False)
        if part is None or again:
            return None, None, self._separate(left, right, set(spans(inner)))
        return (left, None, []) if outer is left else (None, right, [])

    def _join_evenly(
        self, left: Tensor, right: Tensor, *, sums: _Pairs | None, owned: tuple[bool, bool], stay: bool
    ) -> _Joined:
        """Two frames whose neurons pair one by one."""
        big, small = torch.broadcast_tensors(left, right)
        self._compare_places(big, small)
        if sums is not None:
            older, younger = sorted((left, right), key=lambda frame: self.elements.births(element_of(frame)))
            sums.append(_pairs_of(older, younger))
            return (left, None, []) if stay or younger is left else (None, right, [])
        self.tie(element_of(big), element_of(small))
        self._place(big, small, owned)
        return (None, right, []) if owned[0] and not owned[1] and not stay else (left, None, [])

    def _join_partly(self, left: Tensor, right: Tensor) -> _Joined:
        """Two frames each of which spans a dimension that the other does not: they share what the common ones index."""
        common = [dim for dim in spans(left) if dim in spans(right)]
        first, second = (self._derive(frame, common) for frame in (left, right))
        if first is None or second is None:
            return None, None, self._separate(left, right, set(common))
        *_, again = self._join(first, second, sums=None, owned=(False, False), stay=False)
        if again:  # the common part had to be separated
            return None, None, self._separate(left, right, set(common))
        return left, right, []

    def _separate(self, left: Tensor, right: Tensor, dims: Collection[int]) -> list[Tensor]:
        """Fix the order of both frames along the dimensions that they share."""
        parts = []
        for frame in (left, right):
            outer = [dim for dim in spans(frame) if dim not in dims]
            parts.append(self._derive(frame, outer, rigid=True, why="meets another order"))
        return [part for part in parts if part is not None]

    def _compare_places(self, left: Tensor, right: Tensor) -> None:
        """Neurons whose places are paired differently by two frames are not interchangeable."""
        p, q = place_of(left).flatten(), place_of(right).flatten()
        if not (p == p[0]).all() or not (q == q[0]).all():
            salt = self._salt()
            self._colour(element_of(left).flatten(), p * 1_000_003 + q, salt)

    def _place(self, left: Tensor, right: Tensor, owned: tuple[bool, bool]) -> None:
        """Note at which place of a neuron each element of a parameter stands."""
        for mine, other, weight in ((left, right, owned[0]), (right, left, owned[1])):
            places = place_of(other).flatten()
            if weight and place_of(mine).max() == 0 and places.any():
                self.elements.places.append((element_of(mine).flatten(), places))

    def _colour(self, elements: Tensor, values: Tensor, salt: int) -> None:
        """Add to the colour of each element a hash of all its values; whatever their order."""
        ranked, inverse = torch.unique(values, return_inverse=True)
        distinct, number = _distinct_pairs(elements, inverse)
        self.elements.colours.append((distinct, _hash(ranked[number], salt)))

    def _salt(self) -> int:
        return len(self.elements.colours) + 1

    # What several neurons belong to.

    def _derive(self, frame: Tensor, keep: Sequence[int], *, rigid: bool = False, why: str = "") -> Tensor | None:
        """The neurons that runs of others belong to, such as heads.

        Args:
            frame: spans more than `keep`.
            keep: the dimensions that they number.
            rigid: whether the neurons of a run keep their order.
            why: if the order has to be fixed altogether.

        Returns:
            A frame that spans `keep`; None if there is none, and all neurons of the frame are fixed.
        """
        if not keep:
            if rigid:
                self.fix(frame, why)
            return None
        key = (frame.contiguous().numpy().tobytes(), tuple(frame.shape), tuple(keep))
        if key not in self._derived:
            self._derived[key] = self._derive_new(frame, keep)
        derived = self._derived[key]
        if derived is None:
            self.fix(frame, why or "not cut into runs")
        elif rigid:
            child, parent = torch.broadcast_tensors(element_of(frame), element_of(derived))
            self._relate(child.flatten(), parent.flatten(), rigid=True)
        return derived

    def _derive_new(self, frame: Tensor, keep: Sequence[int]) -> Tensor | None:
        rest = [dim for dim in range(frame.ndim) if dim not in keep]
        runs = frame.permute(*keep, *rest).reshape([frame.shape[dim] for dim in keep] + [-1])
        rows = runs.reshape(-1, runs.shape[-1])  # shape (runs, numbers of one)
        elements, order = torch.sort(element_of(rows), dim=1, stable=True)
        heads, number = torch.unique(elements[:, 0], return_inverse=True)
        first = torch.zeros(len(heads), dtype=torch.int64).scatter_(0, number.flip(0), torch.arange(len(rows)).flip(0))
        if not torch.equal(elements, elements[first[number]]):
            return None  # two runs share some neurons, but not all
        members = elements[first]
        owner = torch.arange(len(heads))[:, None].expand_as(members)
        if not _is_function(members.flatten(), owner.flatten()):
            return None
        places = place_of(rows.gather(1, order[:, :1]))[:, 0]
        if (members == members[:, :1]).all():  # each run is one neuron, at several places
            numbers = members[:, 0]
        else:
            base = self.elements.new(len(heads))
            numbers = torch.arange(base.start, base.start + base.size)
            self._relate(members.flatten(), numbers[owner.flatten()], rigid=False)
        shape = [size if dim in keep else 1 for dim, size in enumerate(frame.shape)]
        flat = code(numbers[number], places).reshape([frame.shape[dim] for dim in keep] + [1] * len(rest))
        back = [[*keep, *rest].index(dim) for dim in range(frame.ndim)]
        return flat.permute(*back).reshape(shape)

    def _relate(self, child: Tensor, parent: Tensor, *, rigid: bool) -> None:
        child, parent = _distinct_pairs(child, parent)
        differ = child != parent
        if differ.any():
            self.elements.relations.append(Relation(child[differ], parent[differ], rigid))


def _is_among(frame: Tensor, others: Sequence[Tensor]) -> bool:
    return any(torch.equal(frame, other) for other in others)


def _pairs_of(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The neurons of two frames at the same index."""
    first, second = torch.broadcast_tensors(element_of(left), element_of(right))
    return _distinct_pairs(first.flatten(), second.flatten())


def _distinct_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Each pair of numbers that stand beside each other once, sorted by the first; all below 2^31."""
    pairs = torch.unique(code(a, b))
    return element_of(pairs), place_of(pairs)


def _is_function(a: Tensor, b: Tensor) -> bool:
    """Whether equal numbers of `a` stand beside equal numbers of `b`."""
    one, _ = _distinct_pairs(a, b)
    return not bool((one[1:] == one[:-1]).any())


def _number_of_child(child: Tensor, parent: Tensor) -> Tensor:
    """The how manieth child of its parent each is."""
    children, inverse = torch.unique(child, return_inverse=True)
    parents = torch.zeros_like(children).scatter_(0, inverse, parent)
    order = torch.argsort(parents, stable=True)
    _, counts = torch.unique_consecutive(parents[order], return_counts=True)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    numbers = torch.empty_like(children).scatter_(0, order, torch.arange(len(children)) - starts)
    return numbers[inverse]


def _in_runs(child: Tensor, parent: Tensor) -> bool:
    """Whether the children of each parent are a run of consecutive elements, all as many."""
    _, parents = _distinct_pairs(child, parent)
    runs, counts = torch.unique_consecutive(parents, return_counts=True)
    return len(runs) == len(torch.unique(runs)) and bool((counts == counts[0]).all())


def _hash(values: Tensor, salt: int) -> Tensor:
    """Well-mixed 64-bit numbers (the finaliser of SplitMix64), which add up without meaning."""
    mixed = values + _wrap(salt * _MIX)
    mixed = (mixed ^ _shift(mixed, 30)) * _wrap(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shift(mixed, 27)) * _wrap(0x94D049BB133111EB)
    return mixed ^ _shift(mixed, 31)


def _wrap(number: int) -> int:
    """A number modulo 2^64, as a signed one."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(values: Tensor, bits: int) -> Tensor:
    """A logical shift to the right."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
