import numpy as np
import pytest
import torch
from torch import nn

import ninokit
from ninokit.errors import ConfigError, DependencyError, ForecastError
from ninokit.graph import EdgeKind, GraphBuilder
from ninokit.graph.edge_values import edge_endpoints, edge_kinds, parameters_to_edges
from ninokit.nowcasters import Nino


def slow_nino(model: Nino, graph: ninokit.NeuralGraph, features: torch.Tensor) -> np.ndarray:
    """The paper's function edge by edge and node by node, in its own symbols; features: (edges, taps, context)."""
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def linear(name, x):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def silu(x):
        return x / (1 + np.exp(-x))

    sources, destinations = (tensor.tolist() for tensor in edge_endpoints(graph))
    kinds, positions = edge_kinds(graph).tolist(), graph.positions.double().numpy()
    h = [linear("node_embedding", p) for p in positions]
    e = []
    for x, kind in zip(features.numpy(), kinds, strict=True):
        padded = np.zeros((9, model.context))
        padded[: len(x)] = x
        e.append(linear("edge_embedding", padded.ravel()) + w["kind_embedding.weight"][kind])
    for layer in range(len(model.convolutions)):
        messages = [[] for _ in h]
        for k, (j, i) in enumerate(zip(sources, destinations, strict=True)):
            scale, shift = np.split(linear(f"convolutions.{layer}.modulation", e[k]), 2)
            pair = np.concatenate([h[i], h[j]])  # destination first
            messages[i].append(scale * linear(f"convolutions.{layer}.message", pair) + shift)
        h = [
            silu(
                linear(
                    f"convolutions.{layer}.output",
                    linear(f"convolutions.{layer}.update", np.concatenate([h[i], np.mean(m, axis=0)])),
                )
            )
            for i, m in enumerate(messages)
        ]
        e = [
            linear(
                f"edge_updates.{layer}.output",
                silu(
                    linear(f"edge_updates.{layer}.edge", e[k])
                    + linear(f"edge_updates.{layer}.source", h[j])
                    + linear(f"edge_updates.{layer}.destination", h[i])
                ),
            )
            for k, (j, i) in enumerate(zip(sources, destinations, strict=True))
        ]
    out = [linear("readout.2", silu(linear("readout.0", x))) for x in e]
    return np.stack(out).reshape(len(e), 9, model.max_horizon)[:, : features.shape[1]]


@pytest.mark.usefixtures("dgl_installed")
def test_message_passing_is_the_papers_function(cnn, nino, history_of):
    graph = ninokit.encode(cnn)
    states = {name: x.double() for name, x in history_of(cnn).items()}
    with torch.no_grad():
        fast = nino(double_positions(graph.to_dgl(states))).numpy()
    slow = slow_nino(nino, graph, parameters_to_edges(graph, states))
    np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("dgl_installed")
def test_message_passing_with_structural_and_grouped_edges(nino):
    model = nn.Module()
    model.depthwise = nn.Parameter(torch.randn(4, 1, 3))
    model.pairs = nn.Parameter(torch.randn(4, 2))
    builder = GraphBuilder(model)
    a, b, c, head = builder.neurons("a", 4), builder.neurons("b", 4), builder.neurons("c", 4), builder.neurons("h", 2)
    builder.edges(EdgeKind.CONVOLUTION, a, b, parameter="depthwise", axes="(group dst) src tap", groups=4)
    builder.edges(EdgeKind.LINEAR, b, c, parameter="pairs", axes="(group dst) src", groups=2)
    builder.edges(EdgeKind.RESIDUAL, a, c, groups=4)
    builder.edges(EdgeKind.ATTENTION_HEAD, head, c, groups=2)
    graph = builder.build()
    states = {name: torch.randn(5, *p.shape, dtype=torch.float64) for name, p in model.named_parameters()}
    with torch.no_grad():
        fast = nino(double_positions(graph.to_dgl(states))).numpy()
    slow = slow_nino(nino, graph, parameters_to_edges(graph, states))
    np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-12)


def double_positions(view):
    view.ndata["position"] = view.ndata["position"].double()
    return view


def test_permuted_neurons_are_predicted_permuted(cnn, nino, history_of):
    graph = ninokit.encode(cnn)
    history = history_of(cnn)
    first, second = torch.tensor([2, 0, 3, 1]), torch.tensor([3, 5, 0, 1, 4, 2])
    permuted = {
        "0.weight": history["0.weight"][:, first],
        "0.bias": history["0.bias"][:, first],
        "1.weight": history["1.weight"][:, first],
        "1.bias": history["1.bias"][:, first],
        "3.weight": history["3.weight"][:, second][:, :, first],
        "3.bias": history["3.bias"][:, second],
        "6.weight": history["6.weight"][:, :, second],
        "6.bias": history["6.bias"],
    }
    positions = graph.positions.clone()
    for group, order in (("0", first), ("3", second)):
        start = graph.offsets[group]
        positions[start : start + len(order)] = graph.positions[start + order]
    plain = dict(nino.forecast(graph, history, 40))
    moved = dict(nino.forecast(graph.with_positions(positions), permuted, 40))
    torch.testing.assert_close(moved["0.weight"], plain["0.weight"][first])
    torch.testing.assert_close(moved["1.bias"], plain["1.bias"][first])
    torch.testing.assert_close(moved["3.weight"], plain["3.weight"][second][:, first])
    torch.testing.assert_close(moved["6.weight"], plain["6.weight"][:, second])
    torch.testing.assert_close(moved["6.bias"], plain["6.bias"])
    assert not torch.allclose(moved["0.weight"], plain["0.weight"])


def test_positions_tell_equal_neurons_apart(nino):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    history = {
        name: torch.arange(5.0).view(-1, *[1] * p.ndim).expand(5, *p.shape) for name, p in model.named_parameters()
    }
    prediction = dict(nino.forecast(ninokit.encode(model), history, 40))
    assert len(prediction["0.weight"][:, 0].unique()) == 4


@pytest.mark.usefixtures("dgl_installed")
def test_a_batch_is_its_graphs_one_by_one(cnn, nino, history_of):
    import dgl

    networks = [cnn, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))]
    views = [
        double_positions(ninokit.encode(m).to_dgl({n: x.double() for n, x in history_of(m).items()}, taps=9))
        for m in networks
    ]
    together = nino(dgl.batch(views))
    apart = torch.cat([nino(view) for view in views])
    torch.testing.assert_close(together, apart)


@pytest.mark.usefixtures("dgl_installed")
def test_it_is_differentiable_everywhere(cnn, nino, history_of):
    view = double_positions(ninokit.encode(cnn).to_dgl({n: x.double() for n, x in history_of(cnn).items()}))
    nino(view).square().sum().backward()
    for name, parameter in nino.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_predictions_are_in_the_nowcasters_dtype_and_the_history_is_left_alone(cnn, history_of):
    history = {name: x.bfloat16() for name, x in history_of(cnn).items()}
    before = {name: x.clone() for name, x in history.items()}
    prediction = dict(Nino(hidden=8).forecast(ninokit.encode(cnn), history, 3))
    assert {x.dtype for x in prediction.values()} == {torch.float32}
    assert all(torch.equal(history[name], before[name]) for name in history)


@pytest.mark.parametrize(
    ("change", "horizon", "message"),
    [
        ({}, 41, "horizon: expected 1 to 40, got 41"),
        ({}, 0, "horizon: expected 1 to 40, got 0"),
        ({}, 1.5, "horizon: expected 1 to 40, got 1.5"),
        ({"0.weight": torch.zeros(5, 2, 3)}, 1, "history of 0.weight: expected shape (5, 4, 3), got (5, 2, 3)"),
        ({"0.weight": torch.zeros(3, 4, 3)}, 1, "history of 0.weight: expected 5 states, got shape (3, 4, 3)"),
        ({"0.bias": torch.full((5, 4), torch.inf)}, 1, "history of 0.bias: a weight is not finite (NaN or infinity)"),
        ({"0.bias": None}, 1, "history: the parameter '0.bias' of the graph is missing"),
    ],
)
def test_bad_input_is_named(change, horizon, message):
    model = nn.Sequential(nn.Linear(3, 4))
    history = {"0.weight": torch.zeros(5, 4, 3), "0.bias": torch.zeros(5, 4), **change}
    history = {name: states for name, states in history.items() if states is not None}
    with pytest.raises(ForecastError) as caught:
        list(Nino(hidden=8).forecast(ninokit.encode(model), history, horizon))
    assert str(caught.value) == message


def test_it_needs_a_graph():
    with pytest.raises(ForecastError) as caught:
        list(Nino(hidden=8).forecast(None, {"weight": torch.zeros(5, 1)}, 1))
    assert str(caught.value) == "graph: Nino reads the neural graph, got None; pass encode(model)"


def test_it_forecasts_without_dgl(monkeypatch, cnn, history_of):
    def missing():
        raise DependencyError("dgl is not installed")

    for module in ("ninokit.nowcasters.nino", "ninokit.graph.dgl_view"):
        monkeypatch.setattr(f"{module}.import_dgl", missing)
    nino, graph, history = Nino(hidden=8), ninokit.encode(cnn), history_of(cnn)
    assert dict(nino.forecast(graph, history, 3)).keys() == history.keys()
    with pytest.raises(DependencyError, match="dgl is not installed"):
        dict(nino.forecast_with_dgl(graph, history, 3))


@pytest.mark.parametrize("name", ["hidden", "context", "max_horizon", "layers"])
def test_numbers_below_one(name):
    with pytest.raises(ConfigError) as error:
        Nino(**{name: 0})
    assert str(error.value) == f"{name}: expected at least 1, got 0"
