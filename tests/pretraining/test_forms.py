"""The forms of a nowcaster's function against each other and against its forecast."""

from __future__ import annotations

import pytest
import torch

import ninokit
from ninokit.graph.edge_values import carried
from ninokit.nowcasters import Nino, Wnn
from ninokit.nowcasters.scaling import Scale
from ninokit.pretraining.forms import FORMS

STACK = 3


def states_of(graph: ninokit.NeuralGraph, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {name: torch.randn(STACK, 5, *shape, dtype=dtype) for name, shape in graph.parameters.items()}


@pytest.fixture
def graph(tiny_models) -> ninokit.NeuralGraph:
    return ninokit.encode(tiny_models["convolutional"]())


@pytest.mark.usefixtures("dgl_installed")
def test_nino_in_blocks_and_in_message_passing_have_the_same_gradients(graph):
    nino, states = Nino(hidden=8).double(), states_of(graph)
    positions = torch.randn(STACK, graph.num_nodes, 8, dtype=torch.float64)
    gradients = {}
    for name, form in FORMS["nino"].items():
        nino.zero_grad()
        changes = form(nino, graph, positions, states)
        assert [part.shape[:-1] for part in changes] == [(STACK, *view.shape) for _, _, view in carried(graph)]
        sum((part * (1 + torch.arange(40))).square().sum() for part in changes).backward()
        gradients[name] = [parameter.grad.clone() for parameter in nino.parameters()]
    for blocks, message_passing in zip(gradients["blocks"], gradients["dgl"], strict=True):
        torch.testing.assert_close(blocks, message_passing, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("family", "make"), [("nino", Nino), ("wnn", Wnn)])
def test_they_are_what_is_forecast(graph, family, make):
    nowcaster, states = make(hidden=8).double(), states_of(graph)
    scales = {name: Scale.each(x) for name, x in states.items()}
    scaled = {name: scales[name].apply(x) for name, x in states.items()}
    with torch.no_grad():
        changes = FORMS[family]["blocks"](nowcaster, graph, graph.positions.double().expand(STACK, -1, -1), scaled)
        forecast = dict(nowcaster.forecast(graph, {name: x[1] for name, x in states.items()}, 23))
    for (_, name, view), part in zip(carried(graph), changes, strict=True):
        moved = scaled[name][:, -1].clone()
        view(moved).add_(part[..., 22])
        torch.testing.assert_close(scales[name].undo(moved[:, None])[1, 0], forecast[name])
