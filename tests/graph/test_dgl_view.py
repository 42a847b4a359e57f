from __future__ import annotations

import importlib
import re
import sys
from importlib import metadata

import pytest
import torch
from torch import nn

import ninokit
from ninokit._dgl import import_dgl
from ninokit.errors import DependencyError, GraphError
from ninokit.graph import EdgeKind, GraphBuilder


def has_dgl() -> bool:
    try:
        metadata.version("dgl")
    except metadata.PackageNotFoundError:
        return False
    return True


needs_dgl = pytest.mark.skipif(not has_dgl(), reason="dgl is not installed")


def two_layers() -> nn.Module:
    """Linear(2, 3) and Linear(3, 1); nodes: input 0-1, hidden 2-4, its bias 5, output 6, its bias 7."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        for start, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter) + 10 * start + 1)
    return model


@needs_dgl
def test_two_layers():
    model = two_layers()
    graph = ninokit.encode(model)
    assert [(g.name, g.size) for g in graph.neurons] == [
        ("(input)", 2),
        ("0", 3),
        ("0.bias", 1),
        ("2", 1),
        ("2.bias", 1),
    ]
    states = {name: torch.stack([p.detach(), -p.detach()]) for name, p in model.named_parameters()}
    view = graph.to_dgl(states)
    assert view.num_nodes() == 8
    assert view.num_edges() == 6 + 3 + 3 + 1 + 8
    src, dst = view.edges(order="eid")
    assert src.tolist() == [*[0, 1, 0, 1, 0, 1], *[5, 5, 5], *[2, 3, 4], 7, *range(8)]
    assert dst.tolist() == [*[2, 2, 3, 3, 4, 4], *[2, 3, 4], *[6, 6, 6], 6, *range(8)]
    assert view.edata["kind"].tolist() == [1] * 6 + [2] * 3 + [1] * 3 + [2] + [13] * 8
    assert view.edata["block"].tolist() == [0] * 6 + [1] * 3 + [2] * 3 + [3] + [-1] * 8
    assert view.ndata["group"].tolist() == [0, 0, 1, 1, 1, 2, 3, 4]
    feature = view.edata["feature"]
    assert feature.shape == (21, 1, 2)
    assert feature[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 11, 12, 13, 21, 22, 23, 31] + [2] * 8
    assert feature[:, 0, 1].tolist() == [-1, -2, -3, -4, -5, -6, -11, -12, -13, -21, -22, -23, -31] + [2] * 8
    assert torch.equal(view.ndata["position"], graph.positions)


@needs_dgl
def test_structural_edges_and_taps():
    model = nn.Conv1d(2, 2, 3, bias=False)
    builder = GraphBuilder(model)
    inputs, outputs, head = builder.neurons("in", 2), builder.neurons("out", 2), builder.neurons("head", 1)
    builder.edges(EdgeKind.CONVOLUTION, inputs, outputs, parameter="weight", axes="dst src tap")
    builder.edges(EdgeKind.RESIDUAL, inputs, outputs, groups=2)
    builder.edges(EdgeKind.ATTENTION_HEAD, head, outputs)
    weight = torch.arange(12.0).view(2, 2, 3)
    view = builder.build().to_dgl({"weight": weight[None]}, taps=5)
    assert view.edata["kind"].bincount(minlength=14).tolist() == [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 2, 2, 0, 5]
    feature = view.edata["feature"][:, :, 0]
    kernels = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    rows = [*kernels, *[[1, 0, 0]] * 4, *[[2, 0, 0]] * 5]
    assert feature.tolist() == [[*taps, 0, 0] for taps in rows]


@needs_dgl
def test_shared_end():
    model = nn.Linear(4, 2, bias=False)
    builder = GraphBuilder(model)
    values, outputs = builder.neurons("values", 2), builder.neurons("out", 2)
    plan = {"parameter": "weight", "axes": "dst (group tap src)", "groups": 2, "shared": "dst"}
    builder.edges(EdgeKind.LINEAR, values, outputs, **plan)
    view = builder.build().to_dgl({"weight": torch.arange(8.0).view(1, 2, 4)})
    src, dst = view.edges(order="eid")
    assert src.tolist() == [0, 0, 1, 1, *range(4)]
    assert dst.tolist() == [2, 3, 2, 3, *range(4)]
    assert view.edata["feature"][:4, :, 0].tolist() == [[0, 1], [4, 5], [2, 3], [6, 7]]


@needs_dgl
def test_without_states_there_are_no_features():
    view = ninokit.encode(two_layers()).to_dgl()
    assert set(view.edata) == {"kind", "block"}
    assert set(view.ndata) == {"position", "group"}
    assert view.ndata["position"].dtype == torch.float32
    assert view.edata["kind"].dtype == view.edata["block"].dtype == view.ndata["group"].dtype == torch.int64


@needs_dgl
def test_given_positions_are_used():
    graph = ninokit.encode(two_layers())
    positions = torch.randn(8, 8)
    assert torch.equal(graph.with_positions(positions).to_dgl().ndata["position"], positions)


@needs_dgl
def test_batch_of_two_graphs():
    linear, conv = nn.Linear(2, 3), nn.Conv2d(2, 4, 3)
    graphs = [ninokit.encode(linear), ninokit.encode(conv)]
    states = [{name: torch.randn(5, *p.shape) for name, p in model.named_parameters()} for model in (linear, conv)]
    batch = import_dgl().batch([g.to_dgl(s, taps=9) for g, s in zip(graphs, states, strict=True)])
    assert batch.batch_num_nodes().tolist() == [2 + 3 + 1, 2 + 4 + 1]
    assert batch.batch_num_edges().tolist() == [6 + 3 + 6, 8 + 4 + 7]
    assert batch.edata["feature"].shape == (34, 9, 5)
    assert torch.equal(batch.edata["feature"][:6, 0], states[0]["weight"].permute(1, 2, 0).reshape(6, 5))
    assert torch.equal(batch.edata["feature"][15:23], states[1]["weight"].permute(1, 2, 3, 4, 0).reshape(8, 9, 5))


@needs_dgl
def test_errors_of_the_states_come_through():
    graph = ninokit.encode(two_layers())
    with pytest.raises(GraphError, match=r"^states: the parameter '0.weight' is missing \(4 in all\)$"):
        graph.to_dgl({})


@needs_dgl
def test_features_can_be_differentiated():
    model = nn.Linear(2, 3)
    states = {name: p[None] for name, p in model.named_parameters()}
    (ninokit.encode(model).to_dgl(states).edata["feature"] ** 2).sum().backward()
    assert torch.equal(model.weight.grad, 2 * model.weight.detach())


def test_missing_dgl(monkeypatch):
    def not_there(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delitem(sys.modules, "dgl", raising=False)
    monkeypatch.setattr(metadata, "version", not_there)
    message = (
        "dgl is not installed. The DGL view of graphs and `Nino.forward` need it: use Python 3.10 or 3.11 with "
        "`pip install dgl==1.1.3`, or Python 3.12 with `pip install dgl==2.1.0 pandas pydantic`; there is no DGL for "
        "later Pythons."
    )
    with pytest.raises(DependencyError, match=f"^{re.escape(message)}$"):
        ninokit.encode(nn.Linear(2, 3)).to_dgl()


def test_broken_dgl(monkeypatch):
    def broken(name: str) -> None:
        raise FileNotFoundError(f"no library for {name}")

    monkeypatch.delitem(sys.modules, "dgl", raising=False)
    monkeypatch.delitem(sys.modules, "dgl.graphbolt", raising=False)
    monkeypatch.setattr(metadata, "version", lambda _: "2.1.0")
    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.setenv("DGLBACKEND", "pytorch")
    message = (
        "dgl 2.1.0 is installed but can't be imported (FileNotFoundError: no library for dgl). With Python 3.10 or "
        "3.11 use `pip install dgl==1.1.3 packaging`, with 3.12 `pip install dgl==2.1.0 pandas pydantic`."
    )
    with pytest.raises(DependencyError, match=f"^{re.escape(message)}$"):
        import_dgl()
    sys.modules.pop("dgl.graphbolt", None)


def test_graph_needs_no_dgl(monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", None)  # importing it raises
    graph = ninokit.encode(two_layers())
    assert graph.positions.shape == (8, 8)
    assert graph.describe().startswith("neural graph: 8 neurons")
