"""The published models' predictions, through our own graph."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import ninokit
from ninokit.graph.edge_values import edge_endpoints


def published_network(case: str) -> nn.Module:
    if case == "mlp":
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if case == "cnn":
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU()]
        model = nn.Sequential()
        model.fc = nn.Sequential(*layers, *head, nn.Linear(12, 10))
        return model
    first = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*first, nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *head, nn.Linear(6, 10))


class Golden:
    def __init__(self, folder, case: str) -> None:
        self.description = json.loads((folder / f"{case}.json").read_text())
        self.arrays = np.load(folder / f"{case}.npz")
        self.graph = self._with_golden_positions(ninokit.encode(published_network(case)))

    def history(self) -> dict[str, torch.Tensor]:
        states = torch.from_numpy(self.arrays["states"])
        sizes = [int(np.prod(shape)) for _, shape in self.description["parameters"]]
        parts = states.split(sizes)
        return {n: part.T.reshape(5, *s) for (n, s), part in zip(self.description["parameters"], parts, strict=True)}

    def _with_golden_positions(self, graph):
        """Number the nodes as the publisher does, told by the parameters' edges; theirs run source-major."""
        ranges = {name: (first, last) for name, first, last in self.description["edges"]}
        theirs = np.full(graph.num_nodes, -1)
        endpoints, start = torch.stack(edge_endpoints(graph)).numpy(), 0
        for block in graph.edges:
            first, last = ranges[block.parameter]
            golden = self.arrays["edge_index"][:, first:last].reshape(2, block.src.size, block.dst.size)
            ours = endpoints[:, start : (start := start + block.num_edges)]
            expected = golden.transpose(0, 2, 1).reshape(2, -1)
            assert ((theirs[ours] == -1) | (theirs[ours] == expected)).all()
            theirs[ours] = expected
        assert sorted(theirs) == list(range(self.description["num_nodes"]))
        return graph.with_positions(torch.from_numpy(self.arrays["pos"][theirs]))


@pytest.mark.parametrize("horizon", [1, 17, 40])
@pytest.mark.parametrize(
    ("family", "checkpoint", "forecast"),
    [
        pytest.param("nino", "nino_no_posw.pt", lambda nino: nino.forecast_with_dgl, id="nino in message passing"),
        pytest.param("nino", "nino_no_posw.pt", lambda nino: nino.forecast, id="nino streamed"),
        pytest.param("wnn", "nino_mlp.pt", lambda wnn: wnn.forecast, id="wnn"),
    ],
)
@pytest.mark.parametrize("case", ["mlp", "cnn", "cnn_bn"])
def test_published_predictions_are_met(shared_folder, case, family, checkpoint, forecast, horizon, request):
    if "message passing" in request.node.name:
        request.getfixturevalue("dgl_installed")
    golden = Golden(shared_folder / "goldens", case)
    nowcaster = ninokit.nowcasters.load(shared_folder / "weights" / checkpoint)
    prediction = dict(forecast(nowcaster)(golden.graph, golden.history(), horizon))
    ours = torch.cat([prediction[name].flatten() for name, _ in golden.description["parameters"]]).numpy()
    expected, last = golden.arrays[f"{family}_k{horizon}"], golden.arrays["states"][:, -1]
    assert np.linalg.norm(ours - expected) <= 1e-5 * np.linalg.norm(expected - last)


@pytest.mark.parametrize(
    ("movement", "horizon", "least", "most"),
    [(1, 1, 0.03, 0.09), (1, 17, 0.005, 0.035), (1, 40, 0.005, 0.035), (0.1, 1, 0.17, 0.39), (0.1, 40, 0.045, 0.125)],
)
@pytest.mark.parametrize("case", ["mlp", "cnn", "cnn_bn"])
def test_what_bfloat16_states_cost_is_as_documented(shared_folder, case, movement, horizon, least, most):
    """The figures in the documentation of `ninokit.attach`."""
    golden = Golden(shared_folder / "goldens", case)
    nowcaster = ninokit.nowcasters.load(shared_folder / "weights" / "nino_no_posw.pt")
    exact = {name: states[-1] + movement * (states - states[-1]) for name, states in golden.history().items()}
    rounded = {name: states.bfloat16().float() for name, states in exact.items()}
    expected, found = (dict(nowcaster.forecast(golden.graph, history, horizon)) for history in (exact, rounded))
    last = torch.cat([states[-1].flatten() for states in exact.values()])
    expected, found = (torch.cat([prediction[name].flatten() for name in exact]) for prediction in (expected, found))
    assert least <= (found - expected).norm() / (expected - last).norm() <= most
