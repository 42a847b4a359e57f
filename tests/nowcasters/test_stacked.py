"""The form of NiNo for stacks of networks against the form in DGL message passing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ninokit
from ninokit.graph import EdgeKind, GraphBuilder
from ninokit.nowcasters import Nino
from ninokit.nowcasters.scaling import Scale
from ninokit.nowcasters.stacked import stacked_changes

STACK = 3


def grouped() -> ninokit.NeuralGraph:
    """Depthwise and grouped edges, structural ones, and ends that all slices share, wide and narrow."""
    model = nn.Module()
    model.depthwise = nn.Parameter(torch.empty(4, 1, 3))
    model.pairs = nn.Parameter(torch.empty(4, 2))
    model.experts = nn.Parameter(torch.empty(2, 3, 4))
    model.back = nn.Parameter(torch.empty(2, 4, 3))
    model.narrow = nn.Parameter(torch.empty(2, 1, 4))
    builder = GraphBuilder(model)
    a, b, c, head = builder.neurons("a", 4), builder.neurons("b", 4), builder.neurons("c", 4), builder.neurons("h", 2)
    hidden, out, one = builder.neurons("hidden", 6), builder.neurons("out", 4), builder.neurons("one", 2)
    builder.edges(EdgeKind.CONVOLUTION, a, b, parameter="depthwise", axes="(group dst) src tap", groups=4)
    builder.edges(EdgeKind.LINEAR, b, c, parameter="pairs", axes="(group dst) src", groups=2)
    builder.edges(EdgeKind.RESIDUAL, a, c, groups=4)
    builder.edges(EdgeKind.ATTENTION_HEAD, head, c, groups=2)
    builder.edges(EdgeKind.LINEAR, c, hidden, parameter="experts", axes="group dst src", groups=2, shared="src")
    builder.edges(EdgeKind.LINEAR, hidden, out, parameter="back", axes="group dst src", groups=2, shared="dst")
    builder.edges(EdgeKind.LINEAR, one, out, parameter="narrow", axes="group src dst", groups=2, shared="dst")
    return builder.build()


def wide() -> ninokit.NeuralGraph:
    """More than 32 sources, whose messages are summed another way in the first round."""
    return ninokit.encode(nn.Sequential(nn.Linear(40, 3), nn.ReLU(), nn.Linear(3, 2)))


def states_of(graph: ninokit.NeuralGraph, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.randn(STACK, 5, *shape, dtype=dtype) for name, shape in graph.parameters.items()}


def with_dgl(nino: Nino, graph: ninokit.NeuralGraph, positions: torch.Tensor, states) -> list[torch.Tensor]:
    """The same, network by network."""
    changes = []
    for number, places in enumerate(positions):
        view = graph.to_dgl({name: x[number] for name, x in states.items()})
        view.ndata["position"] = places
        parts = nino(view).split([*(block.num_edges for block in graph.edges), graph.num_nodes])
        changes.append([
            part[:, : block.num_taps].unflatten(0, block.shape)
            for part, block in zip(parts, graph.edges, strict=False) if block.parameter is not None
        ])  # fmt: skip
    return [torch.stack(blocks) for blocks in zip(*changes, strict=True)]


def gradients(nino: Nino, changes: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    nino.zero_grad()
    sum((part * torch.randn_like(part)).sum() for part in changes).backward()
    return {name: parameter.grad.clone() for name, parameter in nino.named_parameters()}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.usefixtures("dgl_installed")
@pytest.mark.parametrize("make", ["cnn", grouped, wide])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_it_is_the_function_in_message_passing(request, make, dtype, tolerance):
    graph = ninokit.encode(request.getfixturevalue(make)) if isinstance(make, str) else make()
    nino = Nino(hidden=16, layers=3).to(dtype)
    states, positions = states_of(graph, dtype), torch.randn(STACK, graph.num_nodes, 8, dtype=dtype)
    stacked, message_passing = (form(nino, graph, positions, states) for form in (stacked_changes, with_dgl))
    for found, expected in zip(stacked, message_passing, strict=True):
        assert found.shape == expected.shape
        assert relative(found, expected) < tolerance
    found, expected = gradients(nino, stacked), gradients(nino, message_passing)
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert relative(found[name], gradient) < tolerance, name


def test_it_forecasts_what_the_nowcaster_forecasts(cnn, nino):
    graph = ninokit.encode(cnn)
    states = states_of(graph, torch.float64)
    scales = {name: Scale.of(x[1], x) for name, x in states.items()}
    scaled = {name: torch.stack([scales[name].apply(x) for x in states[name]]) for name in states}
    changes = stacked_changes(nino, graph, graph.positions.double().expand(STACK, -1, -1), scaled)
    with torch.no_grad():
        forecast = dict(nino.forecast(graph, {name: x[1] for name, x in states.items()}, 7))
        moved = scaled["0.weight"][1, -1].clone()
        graph.blocks["0.weight"][0].view(moved).add_(changes[0][1, ..., 6])
    torch.testing.assert_close(scales["0.weight"].undo(moved), forecast["0.weight"])


@pytest.mark.usefixtures("any_bfloat16")
def test_in_bfloat16_the_states_are_not_rounded():
    graph = wide()
    nino = Nino(hidden=16)
    with torch.no_grad():  # a nowcaster that looks at the differences between states alone
        weight = nino.edge_embedding.weight.unflatten(1, (9, 5))
        weight -= weight.mean(2, keepdim=True)
        weight *= 30
    # Around 100 bfloat16 has steps of 0.5.
    level = {name: torch.full((STACK, 5, *shape), 100.0) for name, shape in graph.parameters.items()}
    states = {name: x + 0.3 * torch.randn_like(x) for name, x in level.items()}
    positions = graph.positions.expand(STACK, -1, -1)

    def effects(precision):
        nino.precision = precision
        pairs = zip(*(stacked_changes(nino, graph, positions, x) for x in (states, level)), strict=True)
        return [moved - still for moved, still in pairs]

    for rounded, exact in zip(effects("bfloat16"), effects("float32"), strict=True):
        assert rounded.dtype == torch.float32
        assert 1e-3 < relative(rounded, exact) < 0.1
