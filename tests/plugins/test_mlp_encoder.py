from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ninokit
from ninokit.errors import ArchitectureError, EncodingError, UnsupportedModelError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.permutations import permute_parameter
from ninokit.testing import check_encoding
from ninokit_mlp.encoder import encode, matches


def groups_of(graph: NeuralGraph) -> dict[str, int]:
    return {group.name: group.size for group in graph.neurons}


def blocks_of(graph: NeuralGraph) -> list[tuple[str, str, str, str, int]]:
    return [(b.parameter, b.kind.name, b.src.name, b.dst.name, b.num_taps) for b in graph.edges]


class Custom(nn.Module):
    """Functional activations, an unused argument, a residual-free forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 6, bias=False)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 3))

    def forward(self, x: Tensor, unused: Tensor | None = None) -> Tensor:
        x = functional.gelu(self.norm(self.first(x)))
        x = functional.dropout(torch.tanh(self.second(x)).relu_(), 0.2, self.training).contiguous()
        return functional.log_softmax(self.head(x), dim=-1)


NETWORKS = {
    "plain": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)), (4, 5)),
    "no bias": (lambda: nn.Sequential(nn.Linear(5, 8, bias=False), nn.SiLU(), nn.Linear(8, 3, bias=False)), (4, 5)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), (4, 5)),
    "batch norm, not affine": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3)),
        (4, 5),
    ),
    "norms": (
        lambda: nn.Sequential(
            nn.LayerNorm(5), nn.Linear(5, 8), nn.RMSNorm(8), nn.ELU(), nn.Dropout(), nn.LayerNorm(8), nn.Linear(8, 3)
        ),
        (4, 5),
    ),
    "softmax inside": (lambda: nn.Sequential(nn.Linear(5, 8), nn.Softmax(1), nn.Linear(8, 3)), (4, 5)),
    "sequence": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), (2, 6, 5)),
    "flatten a sequence": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6, 7), nn.ReLU(), nn.Linear(7, 3)
        ),
        (4, 6, 5),
    ),
    "norm after flattening": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.Flatten(), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 3)),
        (4, 6, 5),
    ),
    "images": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 3)), (4, 3, 4, 4)),
    "custom forward": (Custom, (4, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_neurons_are_interchangeable(name):
    build, shape = NETWORKS[name]
    model = build()
    report = check_encoding(model, torch.randn(shape), encode(model), min_share=0.8)
    assert set(report.fixed.values()) == {"input", "output"}


def test_plain_network():
    graph = encode(NETWORKS["plain"][0]())
    assert groups_of(graph) == {"(input)": 5, "0": 8, "0.bias": 1, "2": 6, "2.bias": 1, "4": 3, "4.bias": 1}
    assert blocks_of(graph) == [
        ("0.weight", "LINEAR", "(input)", "0", 1),
        ("0.bias", "BIAS", "0.bias", "0", 1),
        ("2.weight", "LINEAR", "0", "2", 1),
        ("2.bias", "BIAS", "2.bias", "2", 1),
        ("4.weight", "LINEAR", "2", "4", 1),
        ("4.bias", "BIAS", "4.bias", "4", 1),
    ]


def test_custom_forward():
    assert blocks_of(encode(Custom())) == [
        ("first.weight", "LINEAR", "(input)", "first", 1),
        ("first.bias", "BIAS", "first.bias", "first", 1),
        ("norm.weight", "NORM_SCALE", "norm.weight", "first", 1),
        ("norm.bias", "BIAS", "norm.bias", "first", 1),
        ("second.weight", "LINEAR", "first", "second", 1),
        ("head.1.weight", "LINEAR", "second", "head.1", 1),
        ("head.1.bias", "BIAS", "head.1.bias", "head.1", 1),
    ]


def test_bare_linear_layer():
    graph = encode(nn.Linear(3, 2))
    assert groups_of(graph) == {"(input)": 3, "(output)": 2, "bias": 1}
    assert blocks_of(graph) == [
        ("weight", "LINEAR", "(input)", "(output)", 1),
        ("bias", "BIAS", "bias", "(output)", 1),
    ]


def test_positions_of_a_flattened_sequence_are_taps():
    model = NETWORKS["flatten a sequence"][0]()
    graph = encode(model)
    blocks = [block for block in graph.edges if block.parameter == "3.weight"]
    assert [(b.src.name, b.dst.name, b.num_taps) for b in blocks] == [("0", "3", 6)]
    read = blocks[0].view(model[3].weight)[0]
    for neuron in range(8):
        for position in range(6):  # the neurons are the last dimension, so they run fastest
            assert torch.equal(read[:, neuron, position], model[3].weight[:, position * 8 + neuron])


@pytest.mark.parametrize(
    ("first", "second"), [("3.weight", "5.weight"), ("3.bias", "5.bias"), ("1.weight", "6.weight")]
)
def test_what_is_used_twice_is_left_to_the_tracer(first, second):
    """The neurons at both uses have one order."""
    model = nn.Sequential(
        *(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()),
        *(nn.Linear(6, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)),
    )
    setattr(model[int(second[0])], second[2:], model.get_parameter(first))
    with pytest.raises(ArchitectureError, match=rf"\n  mlp: {second} is {first} again, and each may be used once\n"):
        ninokit.encode(model)
    inputs = torch.randn(3, 4)
    assert check_encoding(model, inputs, ninokit.encode(model, inputs)).share > 0.9


def test_frozen_parameters_are_on_the_graph():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).requires_grad_(False)
    assert encode(model).num_parameters == 11


def test_one_activation_may_serve_many_layers():
    relu = nn.ReLU()
    assert len(encode(nn.Sequential(nn.Linear(3, 2), relu, nn.Linear(2, 2), relu)).edges) == 4


def test_encoding_neither_runs_nor_changes_the_model():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    encode(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_network_without_storage():
    model = nn.Sequential(nn.Linear(3000, 4000, device="meta"), nn.ReLU(), nn.Linear(4000, 10, device="meta"))
    assert encode(model).num_edges == 3000 * 4000 + 4000 + 40000 + 10


@pytest.mark.parametrize("again", [nn.Flatten, nn.Identity])
def test_flattening_what_is_flat_changes_nothing(again):
    layers = [nn.Linear(5, 8), nn.ReLU(), nn.Flatten(), again(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 3)]
    model = nn.Sequential(*layers)
    check_encoding(model, torch.randn(4, 6, 5), encode(model), min_share=0.9)


def test_channels_of_an_image_are_its_input_neurons():
    """A norm over channels tells where the neurons are, and flattening keeps them outermost."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 2)).double()
    for tensor in model.parameters():
        nn.init.normal_(tensor)
    graph = encode(model)
    assert groups_of(graph)["(input)"] == 3
    orders = {"(input)": torch.tensor([2, 0, 1]), "2": torch.randperm(7)}
    moved = {name: permute_parameter(graph.blocks[name], tensor, orders) for name, tensor in model.named_parameters()}
    images = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    found = torch.func.functional_call(model, moved, images[:, [2, 0, 1]])
    torch.testing.assert_close(found, model(images), rtol=1e-9, atol=1e-9)


def test_wrong_graph_is_found_out():
    """The invariance tests can fail: the same network with the flattening the other way round."""
    model = NETWORKS["flatten a sequence"][0]()
    builder = GraphBuilder(model)
    inputs, hidden, second, outputs = (builder.neurons(name, n) for name, n in [("i", 5), ("h", 8), ("s", 7), ("o", 3)])
    builder.edges(EdgeKind.LINEAR, inputs, hidden, parameter="0.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, hidden, parameter="0.bias")
    builder.edges(EdgeKind.LINEAR, hidden, second, parameter="3.weight", axes="dst (src tap)")  # it is (tap src)
    builder.vector(EdgeKind.BIAS, second, parameter="3.bias")
    builder.edges(EdgeKind.LINEAR, second, outputs, parameter="5.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, outputs, parameter="5.bias")
    with pytest.raises(EncodingError) as caught:
        check_encoding(model, torch.randn(4, 6, 5), builder.build())
    assert caught.value.culprits == ("3.weight",)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


class TwoInputs(Residual):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x) * y


class TwoTensors(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.layer.weight


class Twice(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Unused(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Branching(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


class Scaled(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * 2


class NoInput(Residual):
    def forward(self) -> Tensor:
        return self.layer(torch.ones(4))


class TwoOutputs(Residual):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layer(x)
        return hidden.relu(), hidden.tanh()


def mismatched() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(5, 2))


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))


def wide_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm((3, 6)), nn.Linear(6, 2))


def reshaped() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Flatten(0), nn.Linear(6, 2))


DECLINED = [
    (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.InstanceNorm1d(8, affine=True)),
        "1: InstanceNorm1d where 0 dimensions follow",
    ),
    (Residual, "the output of 'x' is used 2 times; in a chain once"),
    (TwoInputs, "it has 2 inputs; a chain has one"),
    (NoInput, "it has 0 inputs; a chain has one"),
    (TwoOutputs, "the output of 'layer' is used 2 times; in a chain once"),
    (TwoTensors, "'matmul' joins several tensors; in a chain there is one"),
    (Twice, "the module 'layer' is used more than once"),
    (Unused, "no layer of the chain uses the parameter 'spare.bias'"),
    (Scaled, "'mul' is no layer, norm or activation of a multilayer perceptron"),
    (
        Branching,
        "torch.fx can't trace it (TraceError: symbolically traced variables cannot be used as inputs to control flow)",
    ),
    (mismatched, "1 acts on 5 numbers, the layer before it has 6 neurons"),
    (weight_normed, "0.weight is computed from other parameters"),
    (wide_norm, "1: LayerNorm over more than the neurons"),
    (reshaped, "'1' is no layer, norm or activation of a multilayer perceptron"),
    (
        lambda: nn.Sequential(nn.Linear(3, 2), nn.PReLU()),
        "'1' is no layer, norm or activation of a multilayer perceptron",
    ),
    (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8)),
        "'1' is no layer, norm or activation of a multilayer perceptron",
    ),
    (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Softmax2d()),
        "'1' is no layer, norm or activation of a multilayer perceptron",
    ),
]


@pytest.mark.parametrize(("build", "reason"), DECLINED, ids=range(len(DECLINED)))
def test_declined_with_the_reason(build, reason):
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(reason)}$"):
        encode(build())
    with pytest.raises(ArchitectureError, match=f"\n  mlp: {re.escape(reason)}\n"):
        ninokit.encode(build(), architecture="mlp")


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (lambda: nn.Linear(3, 2), True),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.LayerNorm(2)), True),
        (Residual, True),  # judged by its modules, declined by its graph
        (lambda: nn.LayerNorm(3), False),
        (nn.ReLU, False),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.PReLU()), False),
        (lambda: nn.Sequential(nn.Conv1d(3, 2, 1), nn.Linear(3, 2)), False),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8)), False),
        (lambda: nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4)), False),
        (weight_normed, False),
    ],
)
def test_matches(build, answer):
    assert matches(build()) is answer


class Images(nn.Module):
    def __init__(self, view):
        super().__init__()
        self.view = view
        self.layer = nn.Linear(16, 2)

    def forward(self, x):
        return self.layer(self.view(x))


@pytest.mark.parametrize(
    "view", [lambda x: x.view(-1, 16), lambda x: x.reshape(x.shape[0], -1), lambda x: x.flatten(1), lambda x: x]
)
def test_inputs_may_be_reshaped_before_the_first_layer(view):
    assert encode(Images(view)).num_edges == 2 * 16 + 2


def test_a_chain_of_hundreds_of_layers():
    model = nn.Sequential(*[layer for _ in range(600) for layer in (nn.Linear(2, 2), nn.ReLU())])
    assert len(encode(model).edges) == 1200
