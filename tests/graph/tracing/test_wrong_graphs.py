"""Small networks of which the tracer once made a wrong graph, or none: what random ones shrank to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ninokit.graph import trace
from ninokit.testing import check_encoding

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A network that is a function of parameters and inputs.

    Args:
        forward: gets the network, whose attributes are the parameters, and the inputs.
        parameters: name → shape.
        inputs: shapes.
        share: of the parameters that permutations move at least, 0 to 1.
        modules: name → how to make it.
    """

    forward: Callable[..., Tensor]
    parameters: dict[str, Shape]
    inputs: tuple[Shape, ...]
    share: float = 0.0
    modules: dict[str, Callable[[], nn.Module]] = field(default_factory=dict)


class Network(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        for name, shape in case.parameters.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))
        for name, make in case.modules.items():
            self.add_module(name, make())

    def forward(self, *inputs: Tensor) -> Any:
        return self.case.forward(self, *inputs)


def two_orders_flattened(net: Any, x: Tensor) -> Tensor:
    hidden = torch.relu(net.channels @ x)  # (batch, channels, 2)
    return functional.linear(torch.relu(functional.linear(hidden, net.others)).flatten(1), net.head)


def constants_written_into(net: Any, x: Tensor) -> Tensor:
    places = torch.zeros(1, 4, 3)  # not on the network's device, and alike until it is written into
    for number in range(3):
        places[..., number] = torch.arange(4.0) ** number
    return functional.linear(functional.linear(x, net.first) * functional.linear(places.to(x), net.gate), net.last)


def written_in_part(net: Any, x: Tensor) -> Tensor:
    hidden = functional.linear(x, net.first)
    index = torch.tensor([[1], [0], [2]], device=hidden.device)
    return functional.linear(hidden.scatter(0, index, hidden[:, :1].detach() * 0 + 0.5), net.last)


def index_of_the_largest(net: Any, x: Tensor) -> Tensor:
    return functional.linear(functional.linear(x, net.other) * functional.linear(x, net.first).max(0)[1], net.last)


def nothing_read(net: Any, x: Tensor) -> Tensor:
    hidden = functional.linear(x, net.first)
    return functional.linear(hidden, net.last) + functional.linear(hidden[..., []], net.empty)


def outer_product(net: Any, x: Tensor) -> Tensor:
    hidden = functional.linear(x, net.first)
    return functional.linear((hidden[:, :, None] * hidden[:, None, :]).flatten(1), net.head)


def lookup_by_neurons(net: Any, x: Tensor) -> Tensor:
    hidden = functional.linear(x, net.first)
    return functional.embedding((hidden.sigmoid() * 3.99).long(), net.table) + x.mean()


def triangle_of_ones(net: Any, x: Tensor) -> Tensor:
    return functional.linear(torch.tanh(functional.linear(x, net.first * torch.ones_like(net.first).tril())), net.last)


def sums_of_ones(net: Any, x: Tensor) -> Tensor:
    count = torch.ones(4, dtype=x.dtype, device=x.device).cumsum(0)
    return functional.linear(torch.tanh(functional.linear(x, net.first) * count), net.last)


def unfolded(net: Any, x: Tensor) -> Tensor:
    return functional.linear(functional.unfold(x, 2, padding=1).transpose(1, 2), net.kernel.flatten(1))


def sum_over_two(net: Any, x: Tensor) -> Tensor:
    return torch.einsum("bchw,cwd->bhd", functional.conv2d(x, net.first), net.weight)


def bilinear_form(net: Any, x: Tensor) -> Tensor:
    return torch.einsum("bd,be,def->bf", x, x, net.weight)


def uneven_runs(net: Any, x: Tensor) -> Tensor:
    return torch.einsum("bnd,nd->bn", functional.conv2d(x, net.first).reshape(-1, 3, 8), net.weight).mean(1)[:, None]


def position_of_a_pad(net: Any, x: Tensor) -> Tensor:
    return functional.linear(functional.conv2d(x, net.first, padding=1), net.second)


def pooled_with_padding(net: Any, x: Tensor) -> Tensor:
    weight = functional.avg_pool1d(torch.ones(1, 1, 4, dtype=x.dtype, device=x.device), 3, 1, 1)[0, 0]
    return functional.linear(functional.linear(x, net.first) * weight, net.second)


def zeros_written_into(net: Any, x: Tensor) -> Tensor:
    made = torch.zeros_like(x)
    made[:, :2] = x[:, :2]
    return functional.linear(torch.tanh(made + net.shift), net.weight)


def input_written_into(net: Any, x: Tensor, y: Tensor) -> Tensor:
    y[:, :4] = functional.linear(x, net.first)
    return functional.linear(torch.tanh(y), net.second)


def one_step(net: Any, x: Tensor) -> Tensor:
    return functional.linear(net.recurrent(x)[0], net.head)


def pixels_flattened(net: Any, x: Tensor) -> Tensor:
    return functional.linear(functional.pixel_shuffle(functional.conv2d(x, net.first), 2).flatten(1), net.head)


def normed_weight(net: Any, x: Tensor) -> Tensor:
    return net.last(torch.tanh(net.first(x)))


def shuffled_channels(net: Any, x: Tensor) -> Tensor:
    return functional.conv2d(functional.channel_shuffle(functional.conv2d(x, net.first), 2), net.second)


CASES = {
    # A weight that reads two orders laid along one dimension was tied to one of them alone.
    "two orders flattened": Case(
        two_orders_flattened, {"channels": (4, 3), "others": (5, 2), "head": (2, 20)}, ((3, 3, 2),)
    ),
    "outer product": Case(outer_product, {"first": (4, 3), "head": (2, 16)}, ((3, 3),)),
    # What is looked up by neurons stands where these do.
    "lookup by neurons": Case(lookup_by_neurons, {"first": (4, 3), "table": (4, 2)}, ((3, 3),)),
    # Equal numbers are equal no more after a triangle is cut out of them, or after sums that go on.
    "triangle of ones": Case(triangle_of_ones, {"first": (4, 3), "last": (2, 4)}, ((3, 3),)),
    "sums of ones": Case(sums_of_ones, {"first": (4, 3), "last": (2, 4)}, ((3, 3),)),
    # Rows of a kernel that fixed inputs belong to were free, as the graph has no nodes for these inputs.
    "unfolded": Case(unfolded, {"kernel": (4, 1, 2, 2)}, ((3, 1, 3, 3),)),
    # All dimensions but one that stood in both summed ones stayed free when these were separated.
    "sum over two": Case(sum_over_two, {"first": (6, 1, 1, 1), "weight": (6, 2, 8)}, ((3, 1, 1, 2),)),
    "bilinear form": Case(bilinear_form, {"weight": (2, 2, 3)}, ((3, 2),)),
    # Of two dimensions that neurons lay across, only the one that they clashed along was fixed.
    "uneven runs": Case(uneven_runs, {"first": (2, 1, 2, 2), "weight": (3, 8)}, ((2, 1, 5, 4),)),
    # One position is alike; the two that padding makes of it are not.
    "position of a pad": Case(position_of_a_pad, {"first": (3, 1, 2, 2), "second": (5, 2)}, ((3, 1, 1, 1),)),
    "pooled with padding": Case(pooled_with_padding, {"first": (4, 3), "second": (2, 4)}, ((3, 3),)),
    # Zeros into which numbers have been written are alike no more, and neurons in an input's memory were forgotten.
    "zeros written into": Case(zeros_written_into, {"shift": (5,), "weight": (2, 5)}, ((3, 5),)),
    "constants written into": Case(
        constants_written_into, {"first": (5, 3), "gate": (5, 3), "last": (2, 5)}, ((3, 4, 3),)
    ),
    "input written into": Case(input_written_into, {"first": (4, 3), "second": (2, 6)}, ((3, 3), (3, 6))),
    # Gates are activated in place, in parts of one tensor that have the same shape.
    "one step": Case(
        one_step, {"head": (2, 5)}, ((3, 1, 2),), 0.9, {"recurrent": lambda: nn.LSTM(2, 5, batch_first=True)}
    ),
    # No single view reads the places of a neuron, nor the numbers of two dimensions with another one between.
    "pixels flattened": Case(pixels_flattened, {"first": (4, 1, 1, 1), "head": (2, 16)}, ((2, 1, 2, 2),)),
    "unfolded channels": Case(unfolded, {"kernel": (5, 2, 2, 2)}, ((3, 2, 2, 2),)),
    "written in part": Case(written_in_part, {"first": (4, 3), "last": (2, 4)}, ((3, 3),)),
    # Its numbers are one a neuron; those of the other layer were fixed in their place.
    "index of the largest": Case(
        index_of_the_largest, {"first": (4, 3), "other": (4, 3), "last": (2, 4)}, ((3, 3),), 0.9
    ),
    # A parameter without numbers has no edges.
    "nothing read": Case(nothing_read, {"first": (4, 3), "last": (2, 4), "empty": (2, 0)}, ((3, 3),)),
    # There was no rule.
    "normed weight": Case(
        normed_weight,
        {},
        ((3, 3),),
        0.9,
        {
            "first": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 8)),
            "last": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 2), dim=1),
        },
    ),
    # The rule failed.
    "shuffled channels": Case(shuffled_channels, {"first": (4, 3, 1, 1), "second": (2, 4, 1, 1)}, ((3, 3, 2, 2),), 0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_is_right(name: str, caplog: pytest.LogCaptureFixture) -> None:
    case = CASES[name]
    network, inputs = Network(case).eval(), tuple(torch.randn(shape) for shape in case.inputs)
    with caplog.at_level(logging.WARNING):
        graph = trace(network, inputs)
    assert not caplog.records
    check_encoding(network, inputs, graph, min_share=case.share)
