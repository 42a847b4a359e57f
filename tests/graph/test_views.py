from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from slow_views import shapes, slow_counts, slow_read, views_of

from ninokit.errors import GraphError
from ninokit.graph.lattice import Axis, Digit
from ninokit.graph.views import View, make_view


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape)


def test_linear_weight_is_read_by_destination_and_source():
    weight = torch.tensor([[1, 2, 3], [4, 5, 6]])
    view = make_view((2, 3), "dst src", expected={"group": 1, "dst": 2, "src": 3})
    assert view.shape == (1, 2, 3, 1)
    assert view(weight).tolist() == [[[[1], [2], [3]], [[4], [5], [6]]]]


def test_input_major_linear_weight_is_transposed():
    weight = torch.tensor([[1, 2, 3], [4, 5, 6]])
    view = make_view((2, 3), "src dst", expected={"group": 1, "dst": 3, "src": 2})
    assert view(weight).tolist() == [[[[1], [4]], [[2], [5]], [[3], [6]]]]


def test_vector_has_one_source():
    view = make_view((3,), "dst", expected={"group": 1, "dst": 3, "src": 1})
    assert view(torch.tensor([7, 8, 9])).tolist() == [[[[7]], [[8]], [[9]]]]


def test_grouped_convolution_has_its_kernel_as_taps():
    weight = numbered(4, 3, 2, 5)
    view = make_view((4, 3, 2, 5), "(group dst) src tap tap", expected={"group": 2, "dst": 2, "src": 3})
    read = view(weight)
    assert view.shape == tuple(read.shape) == (2, 2, 3, 10)
    for g, d, s, t in torch.cartesian_prod(*map(torch.arange, read.shape)).tolist():
        assert read[g, d, s, t] == weight[2 * g + d, s, t // 5, t % 5]


def test_grouped_transposed_convolution_has_its_sources_first():
    weight = numbered(6, 4, 3)
    view = make_view((6, 4, 3), "(group src) dst tap", expected={"group": 2, "dst": 4, "src": 3})
    read = view(weight)
    assert view.shape == tuple(read.shape) == (2, 4, 3, 3)
    for g, d, s, t in torch.cartesian_prod(*map(torch.arange, read.shape)).tolist():
        assert read[g, d, s, t] == weight[3 * g + s, d, t]


@pytest.mark.parametrize(
    ("axes", "row"),
    [
        ("dst (src tap)", [[0, 1], [2, 3], [4, 5]]),
        ("dst (tap src)", [[0, 3], [1, 4], [2, 5]]),
    ],
)
def test_flattened_feature_map(axes, row):
    view = make_view((2, 6), axes, expected={"group": 1, "dst": 2, "src": 3})
    read = view(numbered(2, 6))
    assert read[0, 0].tolist() == row
    assert (read[0, 1] - read[0, 0]).unique().tolist() == [6]


def test_axis_of_size_one_is_dropped():
    view = make_view((1, 3, 1), "1 dst 1", expected={"group": 1, "dst": 3, "src": 1})
    assert view(torch.tensor([[[1], [2], [3]]])).tolist() == [[[[1]], [[2]], [[3]]]]


def test_window_reads_a_slice():
    fused = numbered(6, 2)
    view = make_view((6, 2), "dst src", expected={"group": 1, "dst": 2, "src": 2}, window={0: (2, 4)})
    assert view.window == ((2, 4), (0, 2))
    assert view(fused).tolist() == [[[[4], [5]], [[6], [7]]]]
    columns = make_view((2, 6), "src dst", expected={"group": 1, "dst": 3, "src": 2}, window={1: (3, 6)})
    assert columns(numbered(2, 6)).tolist() == [[[[3], [9]], [[4], [10]], [[5], [11]]]]


def test_tap_range_reads_a_part_of_the_kernel():
    whole = make_view((2, 1, 3, 3), "dst src tap tap", expected={"group": 1, "dst": 2, "src": 1})
    assert whole.taps == (0, 9)
    part = replace(whole, taps=(4, 7))
    assert part.shape == (1, 2, 1, 3)
    assert part(numbered(2, 1, 3, 3)).flatten(0, 2).tolist() == [[4, 5, 6], [13, 14, 15]]


def test_leading_dimensions_stay_in_front():
    view = make_view((4, 3, 2), "(group dst) src tap", expected={"group": 2, "dst": 2, "src": 3}, window=None)
    states = torch.randn(5, 7, 4, 3, 2)
    read = view(states)
    assert read.shape == (5, 7, 2, 2, 3, 2)
    assert torch.equal(read[3, 6], view(states[3, 6]))


@pytest.mark.parametrize(
    ("shape", "axes", "expected", "window"),
    [
        ((4, 3), "dst src", {"group": 1, "dst": 4, "src": 3}, None),
        ((4, 3), "src dst", {"group": 1, "dst": 2, "src": 4}, {1: (1, 3)}),
        ((4, 3, 2, 2), "(group dst) src tap tap", {"group": 2, "dst": 2, "src": 3}, None),
        ((4, 3, 2), "(group src) dst tap", {"group": 2, "dst": 3, "src": 2}, None),
        ((2, 6), "dst (tap src)", {"group": 1, "dst": 2, "src": 3}, None),
    ],
)
def test_view_shares_the_memory_of_its_parameter(shape, axes, expected, window):
    parameter = torch.zeros(shape)
    read = make_view(shape, axes, expected=expected, window=window)(parameter)
    assert read.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
    read.fill_(1)
    assert parameter.sum() == read.numel()
    read[0, -1, -1, -1] = 5
    assert (parameter == 5).sum() == 1


def test_scalar_parameter():
    view = make_view((), "", expected={"group": 1, "dst": 1, "src": 1})
    assert view(torch.tensor(3.0)).tolist() == [[[[3.0]]]]
    assert view(torch.tensor([3.0, 4.0])).shape == (2, 1, 1, 1, 1)


ERRORS = [
    (
        (2, 3),
        "dst foo",
        {"group": 1, "dst": 2, "src": 3},
        None,
        "axes 'dst foo' use ['foo']; the labels are ['group', 'dst', 'src', 'tap', '1']",
    ),
    ((2, 3), "dst", {"group": 1, "dst": 2, "src": 3}, None, "axes 'dst' name 1 axes, but the shape (2, 3) has 2"),
    (
        (2, 3),
        "dst src",
        {"group": 1, "dst": 2, "src": 4},
        None,
        "shape (2, 3) read as 'dst src' has size 3 in 'src', expected 4",
    ),
    (
        (2, 3),
        "src dst",
        {"group": 1, "dst": 3, "src": 3},
        None,
        "shape (2, 3) read as 'src dst' has size 2 in 'src', expected 3",
    ),
    (
        (2, 7),
        "dst (src tap)",
        {"group": 1, "dst": 2, "src": 3},
        None,
        "shape (2, 7) read as 'dst (src tap)': an axis of size 7 does not split into src=3 × taps",
    ),
    (
        (6, 2),
        "(group dst) src",
        {"group": 2, "dst": 2, "src": 2},
        None,
        "shape (6, 2) read as '(group dst) src': an axis of size 6 does not split into group=2 × dst=2",
    ),
    (
        (2, 3),
        "1 dst",
        {"group": 1, "dst": 3, "src": 1},
        None,
        "shape (2, 3) read as '1 dst': an axis of size 2 does not split into 1=1",
    ),
    (
        (2, 3),
        "dst src",
        {"group": 1, "dst": 2, "src": 3},
        {0: (1, 3)},
        "window 1:3 on axis 0 does not lie inside the shape (2, 3)",
    ),
    (
        (2, 3),
        "dst src",
        {"group": 1, "dst": 2, "src": 3},
        {1: (2, 2)},
        "window 2:2 on axis 1 does not lie inside the shape (2, 3)",
    ),
    (
        (2, 3),
        "dst src",
        {"group": 1, "dst": 2, "src": 3},
        {2: (0, 1)},
        "window 0:1 on axis 2 does not lie inside the shape (2, 3)",
    ),
    (
        (2, 3),
        "dst src",
        {"group": 1, "dst": 2, "src": 3},
        {1: (0, 4, 2)},
        "window 0:4:2 on axis 1 does not lie inside the shape (2, 3)",
    ),
    (
        (2, 3),
        "dst src",
        {"group": 1, "dst": 2, "src": 3},
        {1: (0, 3, 0)},
        "window 0:3:0 on axis 1 has a step below 1",
    ),
    (
        (2, 3, 2),
        "tap dst tap",
        {"group": 1, "dst": 3, "src": 1},
        None,
        "shape (2, 3, 2) read as 'tap dst tap' needs a copy, because axes of one label are not neighbours in memory; "
        "describe it as several blocks, with a window each",
    ),
    (
        (2, 2, 3, 3),
        "dst src tap tap",
        {"group": 1, "dst": 2, "src": 2},
        {3: (0, 2)},
        "shape (2, 2, 3, 3) read as 'dst src tap tap' needs a copy, because axes of one label are not neighbours in "
        "memory; describe it as several blocks, with a window each",
    ),
]


@pytest.mark.parametrize(("shape", "axes", "expected", "window", "message"), ERRORS, ids=range(len(ERRORS)))
def test_error_messages(shape, axes, expected, window, message):
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        make_view(shape, axes, expected=expected, window=window)


def test_view_is_a_value():
    expected = {"group": 1, "dst": 2, "src": 3}
    view = make_view((2, 3), "dst src", expected=expected)
    assert view == make_view((2, 3), "dst src", expected=expected)
    assert view == View((Axis(0, (Digit("dst", 2, 1),)), Axis(0, (Digit("src", 3, 1),))), (0, 1))
    assert hash(view) == hash(make_view((2, 3), "dst src", expected=expected))


def test_window_with_a_step():
    view = make_view((6, 2), "dst src", expected={"group": 1, "dst": 3, "src": 2}, window={0: (1, 6, 2)})
    assert view.axes[0] == Axis(1, (Digit("dst", 3, 2),))
    assert view(numbered(6, 2))[0, :, :, 0].tolist() == [[2, 3], [6, 7], [10, 11]]
    uneven = make_view((7, 2), "dst src", expected={"group": 1, "dst": 2, "src": 2}, window={0: (0, 4, 3)})
    assert uneven(numbered(7, 2))[0, :, :, 0].tolist() == [[0, 1], [6, 7]]
    split = make_view((8,), "(group dst)", expected={"group": 2, "dst": 2, "src": 1}, window={0: (0, 8, 2)})
    assert split(numbered(8)).flatten(2).tolist() == [[[0], [2]], [[4], [6]]]


def test_slice_of_interleaved_heads():
    axes = [Axis(2, (Digit("group", 3, 6), Digit("dst", 2))), Axis.split([("src", 2)])]
    view = View.of((18, 2), axes)
    weight = numbered(18, 2)
    assert view.shape == (3, 2, 2, 1)
    assert torch.equal(view(weight)[..., 0], weight.view(3, 6, 2)[:, 2:4])
    assert view.window == ((2, 16), (0, 2))
    assert view.spelled == "(group dst) src"


def test_digits_of_one_label_merge_outermost_first():
    axes = [Axis.split([("tap", 2), ("dst", 1)]), Axis(0, (Digit("tap", 2, 3), Digit("tap", 3)))]
    view = View.of((2, 6), axes)
    assert view.shape == (1, 1, 1, 12)
    assert view(numbered(2, 6)).flatten().tolist() == [*range(12)]


@given(st.data(), shapes)
def test_any_lattice_is_read_and_written_as_number_by_number(data, shape):
    view = data.draw(views_of(shape))
    assume(not view.needs_copy(shape))
    tensor = numbered(*shape)
    read = view(tensor)
    assert read.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert read.numpy().tolist() == slow_read(view, tensor.numpy()).tolist()
    assert View.of(shape, view.axes, view.taps) == view
    written = torch.zeros(shape)
    view(written).copy_(torch.ones(view.shape))
    assert written.numpy().tolist() == slow_counts([view], shape).tolist()


@given(st.data(), shapes)
def test_any_lattice_is_read_with_leading_dimensions_on_meta_and_under_autograd(data, shape):
    view = data.draw(views_of(shape))
    assume(not view.needs_copy(shape))
    states = numbered(2, 3, *shape)
    read = view(states)
    assert read.shape == (2, 3, *view.shape)
    assert torch.equal(read[1, 2], view(states[1, 2]))
    assert view(states.to("meta")).shape == read.shape
    parameter = torch.zeros(shape, requires_grad=True)
    weights = torch.rand(view.shape)
    (slope,) = torch.autograd.grad((view(parameter) * weights).sum(), parameter)
    expected = torch.zeros(shape)
    view(expected).copy_(weights)
    assert torch.equal(slope, expected)


@given(st.data(), shapes)
def test_a_view_is_refused_if_and_only_if_torch_would_copy(data, shape):
    view = data.draw(views_of(shape))
    try:
        view(torch.zeros(shape))
    except RuntimeError:
        with pytest.raises(GraphError, match="needs a copy, because axes of one label are not neighbours in memory"):
            View.of(shape, view.axes, view.taps)
    else:
        View.of(shape, view.axes, view.taps)


def test_gradients_of_what_is_written_through_a_lattice():
    view = View.of((6,), [Axis(1, (Digit("group", 2, 3), Digit("dst", 2)))])
    weights = torch.arange(4.0, requires_grad=True)
    parameter = torch.zeros(6)
    view(parameter).copy_(weights.view(view.shape))
    (slope,) = torch.autograd.grad((parameter * torch.arange(6.0)).sum(), weights)
    assert slope.tolist() == [1, 2, 4, 5]


CHECKED = [
    ([[("dst", 2)]], None, "1 axes 'dst' for the shape (6, 2), which has 2"),
    ([[("dst", 6)], [("src", 3)]], None, "shape (6, 2) read as 'dst src': axis 1 has no index 2"),
    ([[("dst", 3), ("tap", 2)], [("src", 2)]], (0, 3), "taps 0:3 do not lie inside the 2 of '(dst tap) src'"),
    ([[("dst", 6)], [("src", 2)]], (1, 1), "taps 1:1 do not lie inside the 1 of 'dst src'"),
    (
        [[("dst", 2), ("src", 3)], [("dst", 2)]],
        None,
        "shape (6, 2) read as '(dst src) dst' needs a copy, because axes of one label are not neighbours in memory; "
        "describe it as several blocks, with a window each",
    ),
]


@pytest.mark.parametrize(("factors", "taps", "message"), CHECKED, ids=range(len(CHECKED)))
def test_errors_of_the_checked_constructor(factors, taps, message):
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        View.of((6, 2), [Axis.split(axis) for axis in factors], taps)


def test_two_levels_of_one_label_need_a_copy():
    with pytest.raises(GraphError, match=r"^shape \(10,\) read as '\(dst dst\)' needs a copy, "):
        View.of((10,), [Axis(0, (Digit("dst", 2, 6), Digit("dst", 3)))])
