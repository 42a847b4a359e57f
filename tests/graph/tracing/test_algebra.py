"""What is noted when tensors meet, on frames made by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ninokit.graph.tracing import algebra as module
from ninokit.graph.tracing.algebra import Algebra
from ninokit.graph.tracing.axes import Axes, code, element_of, place_of
from ninokit.graph.tracing.elements import Elements


class Board:
    """Elements, an algebra on them, and tensors whose numbers belong to them."""

    def __init__(self) -> None:
        self.elements = Elements()
        self.algebra = Algebra(self.elements)

    def numbers(self, *shape: int) -> Tensor:
        """New elements, as a frame of this shape."""
        base = self.elements.new(torch.Size(shape).numel())
        return code(torch.arange(base.start, base.start + base.size)).reshape(shape)

    def data(self, *frames: Tensor, shape: tuple[int, ...] | None = None, alike: bool = False) -> Axes:
        """A tensor that was computed from the inputs."""
        if shape is None:
            shape = tuple(map(max, *(frame.shape for frame in frames))) if len(frames) > 1 else tuple(frames[0].shape)
        return Axes(shape, frames, tuple(alike or size == 1 for size in shape), data=True)

    def weight(self, *frames: Tensor, name: str = "w") -> Axes:
        """A tensor that was computed from a parameter."""
        shape = tuple(frames[0].shape)
        return Axes(shape, frames, tuple(size == 1 for size in shape), frozenset([name]))

    @property
    def same(self) -> list[tuple[list[int], list[int]]]:
        return [(a.tolist(), b.tolist()) for a, b in self.elements.same]

    @property
    def residual(self) -> list[tuple[list[int], list[int]]]:
        return [(a.tolist(), b.tolist()) for a, b in self.elements.residual]

    @property
    def relations(self) -> list[tuple[list[int], list[int], bool]]:
        return [(r.child.tolist(), r.parent.tolist(), r.rigid) for r in self.elements.relations]

    @property
    def fixed(self) -> list[tuple[list[int], str]]:
        return [(elements.tolist(), why) for elements, why in self.elements.fixed]

    @property
    def facts(self) -> list[object]:
        """All but the elements themselves."""
        e = self.elements
        return [*e.same, *e.residual, *e.tied, *e.relations, *e.fixed, *e.colours, *e.places, *e.slice_ties]


@pytest.fixture
def board() -> Board:
    return Board()


class TestElementwise:
    def test_a_sum_leads_from_the_older_neurons_to_the_younger(self, board):
        first, second = board.numbers(3), board.numbers(3)  # elements 0–2 and 3–5
        board.elements.bases[0].born, board.elements.bases[1].born = 4, 2
        for operands in ([board.data(first), board.data(second)], [board.data(second), board.data(first)]):
            met = board.algebra.elementwise(operands, "add")
            assert board.residual[-1] == ([3, 4, 5], [0, 1, 2])
            assert torch.equal(met.frames[0], first)
            assert met.data
        assert board.same == board.relations == board.fixed == []

    def test_a_sum_in_place_keeps_the_names_of_the_first(self, board):
        first, second = board.numbers(3), board.numbers(3)
        board.elements.bases[1].born = 2
        met = board.algebra.elementwise([board.data(first), board.data(second)], "add", stay=True)
        assert torch.equal(met.frames[0], first)
        assert board.residual == [([0, 1, 2], [3, 4, 5])]

    def test_a_product_ties(self, board):
        first, second = board.numbers(3), board.numbers(3)
        met = board.algebra.elementwise([board.data(first), board.data(second)])
        assert board.same == [([0, 1, 2], [3, 4, 5])]
        assert torch.equal(met.frames[0], first)
        assert board.residual == []

    def test_tying_by_a_weight_that_is_used_twice(self, board):
        board.algebra.elementwise([board.data(board.numbers(2)), board.data(board.numbers(2))], "tie")
        assert [(a.tolist(), b.tolist()) for a, b in board.elements.tied] == [([0, 1], [2, 3])]
        assert board.same == board.residual == []

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_weight_belongs_to_the_neurons_that_it_meets(self, board, turned):
        """Even in a sum: a bias is no neuron of its own."""
        neurons, bias = board.numbers(3), board.numbers(3)
        operands = [board.data(neurons), board.weight(bias)]
        met = board.algebra.elementwise(operands[::-1] if turned else operands, "add", "shift")
        assert [sorted(pair) for pair in board.same] == [[[0, 1, 2], [3, 4, 5]]]
        assert torch.equal(met.frames[0], neurons)
        assert board.residual == []
        assert board.elements.usages == {"w": "shift"}
        assert not met.owned

    def test_two_weights_stay_one(self, board):
        met = board.algebra.elementwise(
            [board.weight(board.numbers(3)), board.weight(board.numbers(3), name="v")], "add", "shift"
        )
        assert met.owned
        assert met.parameters == {"v", "w"}
        assert board.same == [([0, 1, 2], [3, 4, 5])]
        assert board.elements.usages == {}  # as what they are used is told by the data that they meet

    def test_the_same_neurons_say_nothing(self, board):
        numbers = board.numbers(3)
        met = board.algebra.elementwise([board.data(numbers), board.data(numbers.clone())], "add")
        assert torch.equal(met.frames[0], numbers)
        assert board.facts == []

    def test_broadcasting(self, board):
        rows, columns = board.numbers(2, 1), board.numbers(3)
        met = board.algebra.elementwise([board.data(rows), board.data(columns)])
        assert met.shape == (2, 3)
        assert {tuple(frame.shape) for frame in met.frames} == {(2, 1), (1, 3)}
        assert board.facts == []

    @pytest.mark.parametrize("turned", [False, True])
    def test_neurons_that_meet_positions_keep_their_order(self, board, turned):
        numbers = board.numbers(3)
        operands = [board.data(numbers), Axes.constant((3,))]
        met = board.algebra.elementwise(operands[::-1] if turned else operands, "add")
        assert len(met.frames) == 1
        assert torch.equal(met.frames[0], numbers)
        assert board.fixed == [([0, 1, 2], "meets positions")]

    def test_equal_numbers_are_no_positions(self, board):
        numbers = board.numbers(3)
        met = board.algebra.elementwise([board.data(numbers), Axes.constant((3,), alike=True)], "add")
        assert torch.equal(met.frames[0], numbers)
        assert board.facts == []

    def test_alike_only_if_all_are(self, board):
        met = board.algebra.elementwise([Axes.constant((2, 3), alike=True), Axes.constant((2, 1))])
        assert met.alike == (False, True)

    def test_nothing_is_broadcast_to_empty(self, board):
        assert board.algebra.elementwise([Axes.constant((0, 3)), Axes.constant((1, 3))]).shape == (0, 3)


class TestFiner:
    def test_neurons_in_rows_belong_to_those_of_the_rows(self, board):
        """(2 heads, 3) meets a number a head: nine in ten attentions."""
        inside, heads = board.numbers(2, 3), board.numbers(2, 1)  # elements 0–5 and 6, 7
        met = board.algebra.elementwise([board.data(inside), board.data(heads)])
        assert torch.equal(met.frames[0], inside)
        assert len(met.frames) == 1
        # A head's three neurons may change places inside; the product says nothing of their order.
        assert board.relations == [([0, 1, 2, 3, 4, 5], [6, 6, 6, 7, 7, 7], False)]
        assert board.same == board.fixed == []

    def test_frames_of_one_span(self, board):
        fine, coarse = board.numbers(4), code(torch.tensor([9, 9, 10, 10]), torch.tensor([0, 1, 0, 1]))
        board.elements.new(8)
        met = board.algebra.elementwise([board.data(fine), board.data(coarse)])
        assert torch.equal(met.frames[0], fine)
        # At place 0 stands the first child of each, at 1 the second: they keep their order.
        assert board.relations == [([0, 1, 2, 3], [9, 9, 10, 10], True)]

    def test_where_the_places_say_nothing_the_children_are_free(self, board):
        fine, coarse = board.numbers(4), code(torch.tensor([9, 9, 10, 10]))
        board.elements.new(8)
        board.algebra.elementwise([board.data(coarse), board.data(fine)])
        assert board.relations == [([0, 1, 2, 3], [9, 9, 10, 10], False)]

    def test_children_that_are_not_in_runs_are_fixed(self, board):
        fine, coarse = board.numbers(4), code(torch.tensor([9, 10, 9, 10]))
        board.elements.new(8)
        met = board.algebra.elementwise([board.data(fine), board.data(coarse)])
        assert met.frames == ()
        assert sorted(board.fixed) == [([0, 1, 2, 3], "meets another order"), ([9, 10], "meets another order")]

    def test_a_weight_reads_one_neuron_at_several_places(self, board):
        """Four elements of a weight meet two neurons at two places each: taps."""
        weight, neurons = board.numbers(4), code(torch.tensor([9, 9, 10, 10]), torch.tensor([0, 1, 0, 1]))
        board.elements.new(8)
        met = board.algebra.elementwise([board.weight(weight), board.data(neurons)])
        assert torch.equal(met.frames[0], neurons)
        assert board.same == [([0, 1, 2, 3], [9, 9, 10, 10])]
        ((elements, places),) = board.elements.places
        assert (elements.tolist(), places.tolist()) == ([0, 1, 2, 3], [0, 1, 0, 1])
        assert board.relations == []

    def test_neurons_that_cross_are_fixed(self, board):
        """0 and 1 meet both 9 and 10."""
        left = code(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]))
        right = code(torch.tensor([9, 10, 9, 10]), torch.tensor([0, 0, 1, 1]))
        board.elements.new(11)
        met = board.algebra.elementwise([board.data(left), board.data(right)])
        assert met.frames == ()
        assert sorted(board.fixed) == [([0, 1], "meets another order"), ([9, 10], "meets another order")]

    def test_places_paired_differently_tell_neurons_apart(self, board):
        """Neuron 0 is read at place 0 where neuron 2 is at 0; neuron 1 is at 1 where neuron 3 is at 0."""
        left, right = code(torch.tensor([0, 1]), torch.tensor([0, 1])), code(torch.tensor([2, 3]))
        board.elements.new(4)
        board.algebra.elementwise([board.data(left), board.data(right)])
        ((elements, colours),) = board.elements.colours
        assert elements.tolist() == [0, 1]
        assert colours[0] != colours[1]


class TestPartly:
    def test_frames_share_what_the_common_dimension_indexes(self, board):
        """(heads, channel, 1) with (heads, 1, channel), as queries and keys: both belong to the same heads."""
        first, second = board.numbers(2, 3, 1), board.numbers(2, 1, 2)  # elements 0–5 and 6–9
        met = board.algebra.elementwise([board.data(first), board.data(second)])
        assert {tuple(frame.shape) for frame in met.frames} == {(2, 3, 1), (2, 1, 2)}
        (a, b) = board.relations
        assert (a[0], b[0]) == ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])
        assert a[1] == [10, 10, 10, 11, 11, 11]
        assert b[1] == [12, 12, 13, 13]
        assert board.same == [([10, 11], [12, 13])]
        assert board.fixed == []

    def test_frames_without_heads_in_common_are_fixed(self, board):
        """Along what they share, both: rows of the first may not change places as those of the second stay."""
        first, second = board.numbers(2, 3, 1), code(torch.tensor([[[6, 7]], [[6, 8]]]))
        board.elements.new(3)
        met = board.algebra.elementwise([board.data(first), board.data(second)])
        assert [tuple(frame.shape) for frame in met.frames] == [(1, 1, 2), (1, 3, 1)]
        assert board.fixed == [([6, 7, 8], "not cut into runs")]

    def test_heads_that_cross_are_fixed(self, board):
        """Rows 0 and 1 are one head here, rows 0 and 2 there."""
        first = code(torch.tensor([[0, 1], [0, 1], [2, 3], [2, 3]]), torch.tensor([0, 1, 0, 1])[:, None])
        second = code(torch.tensor([[4, 5], [6, 7], [4, 5], [6, 7]]), torch.tensor([0, 0, 1, 1])[:, None])
        board.elements.new(8)
        met = board.algebra.elementwise([board.data(first[:, :, None]), board.data(second[:, None, :])])
        # The heads keep their order, and what is inside stays free.
        assert [tuple(frame.shape) for frame in met.frames] == [(4, 2, 1), (4, 1, 2)]
        assert board.fixed == [([8, 9], "meets another order"), ([10, 11], "meets another order")]
        assert board.relations == [
            ([0, 1, 2, 3], [8, 8, 9, 9], False),
            ([4, 5, 6, 7], [10, 10, 11, 11], False),
        ]


class TestReduce:
    def test_over_all_of_them_nothing_is_left(self, board):
        axes = board.algebra.reduce(board.data(board.numbers(3)), [0])
        assert (axes.shape, axes.frames) == ((), ())
        assert board.facts == []

    def test_dimensions_without_neurons_go_without_a_trace(self, board):
        numbers = board.numbers(3, 1)
        axes = board.algebra.reduce(board.data(numbers, shape=(3, 5)), [1])
        assert axes.frames[0].tolist() == numbers[:, 0].tolist()
        kept = board.algebra.reduce(board.data(numbers, shape=(3, 5)), [1], keepdim=True)
        assert (kept.shape, kept.alike, kept.frames[0].shape) == ((3, 1), (False, True), (3, 1))
        assert board.facts == []

    def test_over_a_part_the_heads_are_left(self, board):
        axes = board.algebra.reduce(board.data(board.numbers(2, 3)), [1])
        assert element_of(axes.frames[0]).tolist() == [6, 7]
        assert board.relations == [([0, 1, 2, 3, 4, 5], [6, 6, 6, 7, 7, 7], False)]

    def test_heads_are_found_once(self, board):
        axes = board.data(board.numbers(2, 3))
        first, second = board.algebra.reduce(axes, [1]), board.algebra.reduce(axes, [1])
        assert torch.equal(first.frames[0], second.frames[0])
        assert len(board.relations) == 1

    def test_runs_that_are_one_neuron_are_it(self, board):
        """Neurons at two places each: their sum over the places is a number a neuron."""
        frame = code(torch.tensor([[5, 5], [6, 6]]), torch.tensor([[0, 1], [2, 3]]))
        board.elements.new(7)
        axes = board.algebra.reduce(board.data(frame), [1])
        assert element_of(axes.frames[0]).tolist() == [5, 6]
        assert place_of(axes.frames[0]).tolist() == [0, 2]
        assert board.facts == []

    def test_runs_of_the_same_neurons_are_one_head_at_several_places(self, board):
        frame = code(torch.tensor([[0, 1], [0, 1], [2, 3]]), torch.tensor([[0, 0], [1, 1], [0, 0]]))
        board.elements.new(4)
        axes = board.algebra.reduce(board.data(frame), [1])
        assert element_of(axes.frames[0]).tolist() == [4, 4, 5]
        assert place_of(axes.frames[0]).tolist() == [0, 1, 0]

    @pytest.mark.parametrize("second", [[0, 2], [1, 2]])
    def test_runs_that_share_some_neurons_are_fixed(self, board, second):
        frame = code(torch.tensor([[0, 1], second]), torch.tensor([[0, 0], [1, 1]]))
        board.elements.new(3)
        axes = board.algebra.reduce(board.data(frame), [1])
        assert axes.frames == ()
        assert board.fixed == [([0, 1, 2], "not cut into runs")]

    def test_a_sum_does_not_see_the_order_inside_of_a_run(self, board):
        frame = code(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0, 0], [1, 1]]))
        board.elements.new(2)
        axes = board.algebra.reduce(board.data(frame), [1])
        assert element_of(axes.frames[0]).tolist() == [2, 2]
        assert board.fixed == []


class TestPin:
    def test_along_all_their_dimensions(self, board):
        axes = board.algebra.pin(board.data(board.numbers(3)), [0], "because")
        assert axes.frames == ()
        assert board.fixed == [([0, 1, 2], "because")]

    def test_along_some_the_heads_stay_free(self, board):
        axes = board.algebra.pin(board.data(board.numbers(2, 3)), [1], "because")
        assert element_of(axes.frames[0]).tolist() == [[6], [7]]
        # Found first without an order, then with one.
        pairs = ([0, 1, 2, 3, 4, 5], [6, 6, 6, 7, 7, 7])
        assert board.relations == [(*pairs, False), (*pairs, True)]
        assert board.fixed == []

    def test_along_others_nothing_happens(self, board):
        numbers = board.numbers(3, 1)
        axes = board.algebra.pin(board.data(numbers, shape=(3, 5)), [1], "because")
        assert torch.equal(axes.frames[0], numbers)
        assert board.facts == []

    def test_all(self, board):
        board.algebra.pin_all(board.data(board.numbers(2, 1), board.numbers(1, 3)), "because")
        assert board.fixed == [([0, 1], "because"), ([2, 3, 4], "because")]


class TestSlices:
    def test_what_lies_along_them_moves_with_the_rest(self, board):
        numbers = board.numbers(2, 3)
        axes = board.algebra.slices(board.data(numbers), [1])
        assert torch.equal(axes.frames[0], numbers)
        assert board.relations == [([0, 1, 2, 3, 4, 5], [6, 6, 6, 7, 7, 7], False)]

    @pytest.mark.parametrize("dims", [[0, 1], []])
    def test_all_or_none_bind_nothing(self, board, dims):
        numbers = board.numbers(2, 3)
        axes = board.algebra.slices(board.data(numbers), dims)
        assert torch.equal(axes.frames[0], numbers)
        assert board.facts == []

    def test_what_is_not_cut_into_runs_is_fixed(self, board):
        frame = code(torch.tensor([[0, 1], [0, 2]]), torch.tensor([[0, 0], [1, 0]]))
        board.elements.new(3)
        assert board.algebra.slices(board.data(frame), [1]).frames == ()
        assert board.fixed == [([0, 1, 2], "not cut into runs")]


def test_labels(board):
    axes = board.algebra.label(Axes.constant((4, 3)), 1)
    assert element_of(axes.frames[0]).tolist() == [[0, 1, 2]]
    assert board.fixed == [([0, 1, 2], "input")]
    free = board.algebra.label(axes, 0, None)
    assert element_of(free.frames[1]).flatten().tolist() == [3, 4, 5, 6]
    assert len(board.fixed) == 1


def test_what_is_cut_away_tells_the_rest_apart(board):
    """Of neurons at two places each the first is left of one, the second of the other."""
    before = code(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]))
    board.algebra.select(before, before)
    assert board.facts == []
    board.algebra.select(before, before[[0, 3]])
    board.algebra.select(before, before[[0, 2]])
    (first, second) = board.elements.colours
    assert first[0].tolist() == second[0].tolist() == [0, 1]
    assert first[1][0] != first[1][1]
    assert second[1][0] == second[1][1]
    board.algebra.select(before, before[:0])
    assert len(board.elements.colours) == 2


def test_neurons_are_born_once(board):
    weight = board.weight(board.numbers(3))
    board.algebra.now = 5
    board.algebra.produce(weight)
    board.algebra.now = 6
    board.algebra.produce(weight)
    assert board.elements.bases[0].born == 5
    assert board.elements.births(torch.tensor([0, 2])) == 5
    assert board.elements.births(board.numbers(2).flatten() >> 31) == -1


def test_first_use_counts(board):
    weight = board.weight(board.numbers(3))
    board.algebra.use(weight, "norm")
    board.algebra.use(weight, "shift")
    assert board.elements.usages == {"w": "norm"}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=12))
def test_functions(pairs):
    a, b = (torch.tensor(side) for side in zip(*pairs, strict=True))
    expected = all(len({y for x, y in pairs if x == value}) == 1 for value, _ in pairs)
    assert module._is_function(a, b) is expected
    one, other = module._distinct_pairs(a, b)
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == sorted(set(pairs))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_numbers_of_children(parents, random):
    """Children are counted in the order of their elements, wherever they stand."""
    places = [child for child in range(len(parents)) for _ in range(random.randint(1, 2))]
    random.shuffle(places)
    child, parent = torch.tensor(places), torch.tensor([parents[child] for child in places])
    expected = [sum(parents[other] == parents[child] for other in range(child)) for child in places]
    assert module._number_of_child(child, parent).tolist() == expected


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_runs(parents):
    """All children of a parent one after another, as many of each."""
    changes = sum(a != b for a, b in itertools.pairwise(parents))
    expected = changes == len(set(parents)) - 1 and len({parents.count(parent) for parent in parents}) == 1
    assert module._in_runs(torch.arange(len(parents)), torch.tensor(parents)) is expected
