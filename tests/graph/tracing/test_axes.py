"""Frames: which numbers of a tensor belong to which neuron, through views of it.

Index legend: E = elements, P = places.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ninokit.graph.tracing.axes import Axes, code, collapse, element_of, place_of, reshape_frame, spans


def column(elements: list[int], places: list[int] | None = None) -> Tensor:
    """A frame of shape (E, 1)."""
    return code(torch.tensor(elements), 0 if places is None else torch.tensor(places))[:, None]


def moved(tensor: Tensor, frame: Tensor, order: dict[int, int]) -> Tensor:
    """The definition: the number of (neuron, place) goes to where (other neuron, place) was, slowly."""
    spanned = spans(frame)
    codes = frame.expand(tensor.shape)
    at = {}
    for index in itertools.product(*map(range, tensor.shape)):
        others = tuple(i for dim, i in enumerate(index) if dim not in spanned)
        key = (int(element_of(codes[index])), int(place_of(codes[index])), others)
        assert key not in at  # else the frame does not say where a number goes
        at[key] = index
    result = tensor.clone()
    for (element, place, others), index in at.items():
        result[at[order[element], place, others]] = tensor[index]
    return result


@st.composite
def framed(draw):
    """A shape, a frame that spans some of its dimensions, and an order of its neurons."""
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    roles = [draw(st.sampled_from(["neuron", "place", "other"])) for _ in shape]
    frame = torch.zeros([1] * len(shape), dtype=torch.int64)
    for role, scale in (("neuron", code), ("place", lambda p: p)):
        number = torch.zeros([1] * len(shape), dtype=torch.int64)
        for dim, size in enumerate(shape):
            if roles[dim] == role:
                along = torch.arange(size).reshape([size if d == dim else 1 for d in range(len(shape))])
                number = number * size + along
        frame = frame + scale(number)
    count = math.prod(size for size, role in zip(shape, roles, strict=True) if role == "neuron")
    order = dict(enumerate(draw(st.permutations(range(count)))))
    return shape, frame, order


@st.composite
def views(draw, shape: list[int]) -> list[int]:
    """Another shape of as many numbers."""
    left, new = math.prod(shape), []
    while left > 1 or draw(st.integers(0, 3)) == 3:
        new.append(draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0])))
        left //= new[-1]
    return new


@given(framed(), st.data())
def test_views_move_the_numbers_that_they_should(case, data):
    """Neurons change places before a view as they do after it."""
    shape, frame, order = case
    new = data.draw(views(shape))
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    after = reshape_frame(frame, shape, new)
    assert after.ndim == len(new)
    assert torch.equal(moved(tensor, frame, order).reshape(new), moved(tensor.reshape(new), after, order))


@given(framed(), st.data())
def test_views_of_axes(case, data):
    shape, frame, order = case
    new = data.draw(views(shape))
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    axes = Axes(tuple(shape), (frame,), (False,) * len(shape)).reshape(new)
    assert axes.shape == tuple(new)
    assert new == shape or all(spans(frame) for frame in axes.frames)
    known = axes.frames[0] if axes.frames else torch.zeros([1] * len(new), dtype=torch.int64)
    if axes.frames or max(order) == 0:
        assert torch.equal(moved(tensor, frame, order).reshape(new), moved(tensor.reshape(new), known, order))


@given(framed())
def test_collapse_leaves_out_dimensions_that_say_nothing(case):
    shape, frame, order = case
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    collapsed = collapse(frame)
    assert torch.equal(moved(tensor, frame, order), moved(tensor, collapsed, order))
    assert set(spans(collapsed)) <= set(spans(frame))
    elements = element_of(frame)
    # Made as they are, exactly the dimensions along which the neurons differ are left.
    assert spans(collapsed) == tuple(dim for dim in spans(frame) if (elements != elements.narrow(dim, 0, 1)).any())


def test_collapse_keeps_places_that_differ_between_neurons():
    """The second neuron has its places the other way around: along the rows the two do not stand at one index."""
    frame = code(torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0, 1], [1, 0]]))
    assert torch.equal(collapse(frame), frame)
    alike = code(torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0, 0], [1, 1]]))
    assert torch.equal(collapse(alike), alike[:1])


def test_codes():
    elements, places = torch.tensor([0, 1, 5, 2**31 - 1]), torch.tensor([0, 3, 2**31 - 1, 7])
    codes = code(elements, places)
    assert torch.equal(element_of(codes), elements)
    assert torch.equal(place_of(codes), places)
    assert codes.tolist() == [0, 2**31 + 3, 5 * 2**31 + 2**31 - 1, (2**31 - 1) * 2**31 + 7]
    assert torch.equal(code(elements), code(elements, 0))


def test_places_that_would_overflow_are_numbered_anew():
    frame = column([4, 4, 4], [0, 2**30, 2**31 - 1])
    after = reshape_frame(frame, (3, 5), (15,))
    assert element_of(after).tolist() == [4] * 15
    assert place_of(after).tolist() == list(range(15))


def test_merged_dimensions_become_places():
    """Channels × positions, flattened: neuron by neuron, the positions are its places."""
    after = reshape_frame(column([7, 8]), (2, 3), (6,))
    assert element_of(after).tolist() == [7, 7, 7, 8, 8, 8]
    assert place_of(after).tolist() == [0, 1, 2, 0, 1, 2]
    back = collapse(reshape_frame(after, (6,), (2, 3)))
    assert torch.equal(back, column([7, 8]))


def test_spans():
    assert spans(torch.zeros(1, 3, 1, 2)) == (1, 3)
    assert spans(torch.zeros(1, 1)) == ()
    assert spans(torch.zeros(())) == ()


def test_constants():
    axes = Axes.constant((2, 1, 3))
    assert axes == Axes((2, 1, 3), (), (False, True, False))
    assert [axes.is_position(dim) for dim in range(3)] == [True, False, True]
    alike = Axes.constant([2, 3], alike=True)
    assert alike == Axes((2, 3), (), (True, True))
    assert not any(alike.is_position(dim) for dim in range(2))
    assert not Axes((1,), (), (False,)).is_position(0)  # nothing to put into an order
    assert not alike.owned


def test_a_dimension_with_neurons_is_no_position():
    axes = Axes((2, 3), (column([0, 1]),), (False, False))
    assert [axes.is_position(dim) for dim in range(2)] == [False, True]


def test_weights_are_what_only_parameters_went_into():
    weight = Axes((2,), (), (False,), frozenset(["w"]))
    other = Axes((2,), (), (False,), frozenset(["v"]))
    data, constant = Axes((2,), (), (False,), data=True), Axes.constant((2,))
    assert weight.owned
    assert not constant.owned
    assert not data.owned
    assert not replace(weight, data=True).owned
    both = constant.from_tensors([weight, constant, other])
    assert both.owned
    assert both.parameters == {"v", "w"}
    mixed = constant.from_tensors(iter([weight, data]))
    assert (mixed.owned, mixed.data, mixed.parameters) == (False, True, frozenset())


def test_moves_of_dimensions():
    axes = Axes((2, 3, 4), (code(torch.arange(2)).reshape(2, 1, 1),), (False, True, False))
    turned = axes.permute([2, 0, 1])
    assert (turned.shape, turned.alike, turned.frames[0].shape) == ((4, 2, 3), (False, False, True), (1, 2, 1))
    more = axes.unsqueeze(1)
    assert (more.shape, more.alike) == ((2, 1, 3, 4), (False, True, True, False))
    assert more.frames[0].shape == (2, 1, 1, 1)
    fewer = axes.drop([1, 2])
    assert (fewer.shape, fewer.alike, fewer.frames[0].tolist()) == ((2,), (False,), [0, 2**31])
    aligned = axes.align(5)
    assert (aligned.shape, aligned.alike) == ((1, 1, 2, 3, 4), (True, True, False, True, False))
    assert aligned.frames[0].shape == (1, 1, 2, 1, 1)
    assert Axes(()).permute([]) == Axes(())


def test_what_is_broadcast_is_alike():
    axes = Axes((2, 1), (column([0, 1]),), (False, True)).expand((5, 2, 3))
    assert (axes.shape, axes.alike, axes.frames[0].shape) == ((5, 2, 3), (True, False, True), (1, 2, 1))
    assert [axes.is_position(dim) for dim in range(3)] == [False, False, False]


def test_frames_that_span_nothing_are_left_out():
    frame = column([3, 4])
    assert Axes((2, 1)).with_frames([frame, column([5])]).frames == (frame,)


@pytest.mark.parametrize(
    ("shape", "alike"),
    [
        ((6, 4), (False, True)),  # of merged dimensions one differs
        ((2, 12), (True, False)),
        ((2, 3, 2, 2), (True, False, True, True)),
        ((1, 2, 3, 4), (True, True, False, True)),
        ((2, 3, 1, 4), (True, False, True, True)),
        ((24,), (False,)),
        ((3, 8), (False, False)),
        ((4, 6), (False, False)),
    ],
)
def test_alike_after_a_view(shape, alike):
    assert Axes((2, 3, 4), (), (True, False, True)).reshape(shape).alike == alike


def test_view_as_it_is():
    axes = Axes((2, 3), (column([0, 1]),), (False, False))
    assert axes.reshape((2, 3)) is axes


def test_empty_tensors():
    assert Axes((0, 3), (), (False, False)).reshape((3, 0, 1)) == Axes((3, 0, 1), (), (False, False, True))
