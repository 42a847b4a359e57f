"""Where a tensor lies in another one of the same memory."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.memory import find_window


@st.composite
def views(draw, tensor: Tensor) -> Tensor:
    """What select, narrow, transpose, unsqueeze and slices with a step make of a tensor."""
    for _ in range(draw(st.integers(0, 4))):
        if not tensor.ndim:
            break
        dim = draw(st.integers(0, tensor.ndim - 1))
        start = draw(st.integers(0, tensor.shape[dim] - 1))
        match draw(st.sampled_from(["select", "narrow", "transpose", "unsqueeze", "step"])):
            case "select":
                tensor = tensor.select(dim, start)
            case "narrow":
                tensor = tensor.narrow(dim, start, draw(st.integers(1, tensor.shape[dim] - start)))
            case "transpose":
                tensor = tensor.transpose(dim, draw(st.integers(0, tensor.ndim - 1)))
            case "unsqueeze":
                tensor = tensor.unsqueeze(dim)
            case "step":
                tensor = tensor[(slice(None),) * dim + (slice(start, None, 2),)]
    return tensor


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_window_is_where_the_numbers_are(data, shape):
    memory = torch.arange(1, torch.Size(shape).numel() + 1).view(shape)
    outer = data.draw(views(memory))
    inner = data.draw(views(data.draw(st.sampled_from([outer, memory]))))
    window, numbers = find_window(inner, outer), inner.flatten().tolist()
    if window is None:
        return
    found = outer
    for dim in range(outer.ndim):  # the range of indices along each dimension at which one of the numbers is
        held = (
            torch.isin(outer, inner.contiguous()).movedim(dim, 0).reshape(outer.shape[dim], -1).any(1).nonzero()[:, 0]
        )
        assert held.tolist() == list(range(held[0], held[-1] + 1))
        assert (len(held) < outer.shape[dim]) == (dim in window.parts)
        found = found.narrow(dim, int(held[0]), len(held))
    assert sorted(found.flatten().tolist()) == sorted(numbers)
    kept = [place for place in window.places if place is not None]
    lifted = inner.reshape([size for dim, size in enumerate(inner.shape) if dim in kept])
    lifted = lifted.permute([sorted(kept).index(place) for place in kept]).reshape(found.shape)
    assert torch.equal(lifted, found)
    assert window.lift(Axes.constant(inner.shape)).shape == tuple(found.shape)


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_selected_narrowed_and_transposed_is_found(data, shape):
    outer = torch.empty(shape)
    inner = outer.transpose(0, -1)
    for dim in range(inner.ndim):
        start = data.draw(st.integers(0, inner.shape[dim] - 1))
        inner = inner.narrow(dim, start, data.draw(st.integers(1, inner.shape[dim] - start)))
    assert find_window(inner, outer) is not None
    assert find_window(inner.select(0, 0), outer) is not None


def test_what_is_no_window():
    memory = torch.zeros(4, 6)
    assert find_window(memory[:, ::2], memory) is None
    assert find_window(memory[:2], memory[2:]) is None
    assert find_window(memory[1:3], memory[2:]) is None
    assert find_window(memory.diagonal(), memory) is None
    assert find_window(memory[0], memory[0].expand(3, 6)) is None
    assert find_window(memory[0, 2:4], memory[0].unfold(0, 3, 1)) is None
    assert find_window(memory, memory[1:3]) is None
