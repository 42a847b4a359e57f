from __future__ import annotations

import re
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ninokit
from ninokit.errors import ArchitectureError, EncodingError, UnsupportedModelError
from ninokit.graph import EdgeKind, Edges, GraphBuilder, NeuralGraph
from ninokit.testing import check_encoding
from ninokit_cnn.encoder import encode, matches


def carrying(graph: NeuralGraph, parameter: str) -> list[Edges]:
    return [block for block in graph.edges if block.parameter == parameter]


class Functional(nn.Module):
    """Everything but the layers as functions and methods."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending
        self.first, self.norm, self.second = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 2)
        positions = {"view": 4, "reshape": 4, "flatten": 4, "torch.flatten": 4}.get(ending, 1)
        self.head = nn.Linear(8 * positions, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm(self.first(x))), 2)
        x = functional.leaky_relu(self.second(functional.dropout(x, 0.1, self.training)))
        if self.ending == "view":
            x = x.view(x.size(0), -1)
        elif self.ending == "reshape":
            x = x.reshape(x.shape[0], -1)
        elif self.ending == "flatten":
            x = x.flatten(1)
        elif self.ending == "torch.flatten":
            x = torch.flatten(x, start_dim=1)
        elif self.ending == "mean":
            x = x.mean((2, 3))
        elif self.ending == "mean that keeps its dimensions":
            x = x.mean((2, 3), keepdim=True).flatten(1)
        elif self.ending == "mean from the end":
            x = torch.mean(x, dim=(-1, -2))
        elif self.ending == "amax":
            x = x.amax(dim=[2, 3])
        else:
            x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(x)


NETWORKS = {
    "plain": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        2,
    ),
    "pooled": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, stride=2),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        ),
        2,
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)),
        2,
    ),
    "batch norm, not affine": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), nn.ReLU(), nn.Conv2d(6, 4, 3)),
        2,
    ),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), nn.Conv2d(6, 4, 3)),
        2,
    ),
    "norm first": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)), 2),
    "large kernels": (lambda: nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Conv2d(6, 4, (3, 4))), 2),
    "1d": (lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.AvgPool1d(2), nn.Tanh(), nn.Conv1d(6, 4, 2)), 1),
    "3d": (lambda: nn.Sequential(nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 4, 2)), 3),
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.Conv2d(8, 2, 1)
        ),
        2,
    ),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, groups=4),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 4, 1),
        ),
        2,
    ),
    "grouped, other slices": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, groups=4),
            nn.ReLU(),
            nn.Conv2d(16, 8, 1, groups=2),
            nn.ReLU(),
            nn.Conv2d(8, 4, 1),
        ),
        2,
    ),
    "grouped and transposed": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 12, 3, groups=4), nn.ReLU(), nn.Conv1d(12, 4, 1)
        ),
        1,
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, groups=6),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 1),
        ),
        2,
    ),
    "depthwise with a multiplier": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 18, 3, groups=6), nn.ReLU(), nn.Conv2d(18, 4, 1)
        ),
        2,
    ),
    "flattened": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(6 * 9, 7),
            nn.ReLU(),
            nn.Linear(7, 4),
        ),
        2,
    ),
    "flattened twice": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Flatten(), nn.Linear(6 * 36, 7), nn.ReLU(), nn.Linear(7, 4)
        ),
        2,
    ),
    "norm after flattening": (
        lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.Flatten(), nn.BatchNorm1d(36), nn.ReLU(), nn.Linear(36, 4)),
        1,
    ),
    "upsampled and padded": (
        lambda: nn.Sequential(
            nn.ZeroPad2d(1), nn.Conv2d(3, 6, 3), nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(6, 4, 3)
        ),
        2,
    ),
    **{
        f"functional, {ending}": (lambda ending=ending: Functional(ending), 2)
        for ending in (
            "view",
            "reshape",
            "flatten",
            "torch.flatten",
            "mean",
            "mean from the end",
            "mean that keeps its dimensions",
            "amax",
            "adaptive",
        )
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_neurons_are_interchangeable(name):
    build, dims = NETWORKS[name]
    model = build()
    report = check_encoding(model, torch.randn(4, 3, *[8] * dims), encode(model), min_share=0.9)
    assert set(report.fixed.values()) == {"input", "output"}


@pytest.mark.parametrize(
    ("layer", "groups", "taps", "edges"),
    [
        (lambda: nn.Conv2d(3, 4, 3, bias=False), 1, [9], 12),
        (lambda: nn.Conv2d(3, 4, 1, bias=False), 1, [1], 12),
        (lambda: nn.Conv2d(3, 4, 5, bias=False), 1, [9, 9, 7], 12),
        (lambda: nn.Conv2d(3, 4, (7, 1), bias=False), 1, [7], 12),
        (lambda: nn.Conv1d(3, 4, 11, bias=False), 1, [9, 2], 12),
        (lambda: nn.Conv3d(3, 4, 3, bias=False), 1, [9, 9, 9], 12),
        (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), 2, [9], 12),
        (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), 4, [9], 4),
        (lambda: nn.Conv2d(4, 12, 3, groups=4, bias=False), 4, [9], 12),
        (lambda: nn.ConvTranspose2d(4, 6, 4, groups=2, bias=False), 2, [9, 7], 12),
        (lambda: nn.ConvTranspose1d(3, 5, 2, bias=False), 1, [2], 15),
    ],
)
def test_bare_convolution(layer, groups, taps, edges):
    graph = encode(layer())
    blocks = carrying(graph, "weight")
    assert [block.num_taps for block in blocks] == taps
    assert [block.num_edges for block in blocks] == [edges] * len(taps)
    assert {(b.src.name, b.dst.name, b.groups, b.kind) for b in blocks} == {
        ("(input)", "(output)", groups, EdgeKind.CONVOLUTION)
    }


def test_pooled_channels_feed_the_head_one_by_one():
    graph = encode(nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveMaxPool2d((1, 1)), nn.Flatten(), nn.Linear(6, 4)))
    (block,) = carrying(graph, "3.weight")
    assert (block.src.name, block.src.size, block.num_taps, block.kind) == ("0", 6, 1, EdgeKind.LINEAR)


@pytest.mark.parametrize("size", [(2, 3), (4, 4)])
def test_positions_of_a_flattened_feature_map_are_taps(size):
    positions = size[0] * size[1]
    head = nn.Linear(5 * positions, 4)
    graph = encode(nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(size), nn.Flatten(), head))
    blocks = carrying(graph, "3.weight")
    assert {block.src.name for block in blocks} == {"0"}
    assert [block.num_taps for block in blocks] == ([6] if positions == 6 else [9, 7])
    read = torch.cat([block.view(head.weight)[0] for block in blocks], -1)
    # Which weights answer to a channel? Those that change the output when that channel alone is lit.
    for channel in range(5):
        for position in range(positions):
            feature_map = torch.zeros(1, 5, *size)
            feature_map[0, channel, position // size[1], position % size[1]] = 1
            lit = functional.linear(feature_map.flatten(1), head.weight)[0]
            assert torch.equal(read[:, channel, position], lit)


@pytest.mark.parametrize("network", ["alexnet", "vgg11", "vgg11_bn"])
def test_torchvision_networks_without_storage(network):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(models, network)()
    graph = ninokit.encode(model)
    assert graph.num_parameters == sum(p.numel() for p in model.parameters())
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for layer in convolutions:
        taps = layer.kernel_size[0] ** 2
        name = next(n for n, m in model.named_modules() if m is layer)
        blocks = carrying(graph, f"{name}.weight")
        assert [b.num_taps for b in blocks] == [9] * (taps // 9) + ([taps % 9] if taps % 9 else [])
        assert {b.num_edges for b in blocks} == {layer.in_channels * layer.out_channels}
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    first = carrying(graph, f"{linear[0]}.weight")
    assert sum(b.num_taps for b in first) == (36 if network == "alexnet" else 49)
    assert {b.src.size for b in first} == {convolutions[-1].out_channels}
    nodes = (
        3
        + sum(m.out_channels for m in convolutions)
        + sum(m.out_features for m in model.modules() if isinstance(m, nn.Linear))
    )
    assert graph.num_nodes == nodes + sum(p.ndim == 1 for p in model.parameters())
    assert graph.positions.shape == (graph.num_nodes, 8)


def test_vgg_with_few_channels_is_invariant():
    vgg = pytest.importorskip("torchvision.models.vgg")
    model = vgg.VGG(vgg.make_layers([4, "M", 6, "M", 8, 8], batch_norm=True), num_classes=3)
    model.classifier = nn.Sequential(nn.Linear(8 * 49, 10), nn.ReLU(True), nn.Dropout(), nn.Linear(10, 3))
    assert check_encoding(model, torch.randn(2, 3, 32, 32), draws=1).share > 0.99


def test_wrong_graph_is_found_out():
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4, bias=False))
    images = torch.randn(4, 3, 4, 4)
    for flattened, right in [("dst (src tap)", True), ("dst (tap src)", False)]:
        builder = GraphBuilder(model)
        inputs, hidden, outputs = builder.neurons("in", 3), builder.neurons("hidden", 6), builder.neurons("out", 4)
        builder.edges(EdgeKind.CONVOLUTION, inputs, hidden, parameter="0.weight", axes="dst src tap tap")
        builder.edges(EdgeKind.LINEAR, hidden, outputs, parameter="3.weight", axes=flattened)
        if right:
            assert check_encoding(model, images, builder.build()).share == 1
        else:
            with pytest.raises(EncodingError) as caught:
                check_encoding(model, images, builder.build())
            assert caught.value.culprits == ("3.weight",)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x


class PartlyPooled(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(3)


class Squeezed(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(self.conv(x), 1).squeeze()


def named(*layers: tuple[str, nn.Module]) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


NO_STEP = "is no step of a plain convolutional chain"


class Viewed(nn.Module):
    """A feature map that is not flattened example by example."""

    def __init__(self, size):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(12, 2)
        self.size = size

    def forward(self, x):
        x = self.conv(x)
        return self.head(x.view(self.size(x), -1))


DECLINED = [
    (lambda: Viewed(lambda x: 2 * x.size(0)), f"'view' {NO_STEP}"),
    (lambda: Viewed(lambda x: x.size(1)), f"'view' {NO_STEP}"),
    (lambda: Viewed(lambda x: x.shape[1]), f"'view' {NO_STEP}"),
    (lambda: Viewed(lambda x: 2), f"'view' {NO_STEP}"),
    (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.Conv1d(8, 2, 1)),
        "1 reads a map of 1 dimensions, the layer before has none such",
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.InstanceNorm1d(6, affine=True)),
        "2: InstanceNorm1d where 0 dimensions follow",
    ),
    (
        lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(48, 2), nn.Conv1d(2, 2, 1)),
        "2 acts on 48 numbers, the layer before it has 8 neurons",
    ),
    (Residual, "the output of 'x' is used 2 times; in a chain once"),
    (PartlyPooled, f"'mean' {NO_STEP}"),
    (Squeezed, f"'squeeze' {NO_STEP}"),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 2)),
        "2: a linear layer on a feature map that was neither pooled nor flattened",
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(1, 2)),
        "2: a linear layer on a feature map that was neither pooled nor flattened",
    ),
    (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(5, 2, 3)), "1 reads 5 channels, the layer before has 6"),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(25, 2)),
        "2 acts on 25 numbers, the layer before it has 6 neurons",
    ),
    (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6)), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.PReLU()), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.Conv2d(2, 2, 3)), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ChannelShuffle(2), nn.Conv2d(8, 2, 3)), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(3), nn.Conv2d(8, 2, 3)), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GLU(1), nn.Conv2d(4, 2, 3)), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(36, 2)), f"'1' {NO_STEP}"),
    (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.LayerNorm(6)), "1: LayerNorm over more than the neurons"),
    (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.LayerNorm((6, 4, 4))), "1: LayerNorm over more than the neurons"),
    (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 3))),
        "0.weight is computed from other parameters",
    ),
]


@pytest.mark.parametrize(("build", "reason"), DECLINED, ids=range(len(DECLINED)))
def test_declined_with_the_reason(build, reason):
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(reason)}$"):
        encode(build())
    with pytest.raises(ArchitectureError, match=f"\n  cnn: {re.escape(reason)}\n"):
        ninokit.encode(build(), architecture="cnn")


@pytest.mark.parametrize(
    ("build", "dims"),
    [
        pytest.param(
            lambda: named(
                ("conv", nn.Conv2d(3, 6, 3)), ("avg_pool2d", nn.ChannelShuffle(2)), ("last", nn.Conv2d(6, 4, 1))
            ),
            2,
            id="a step that bears a pooling function's name",
        ),
        pytest.param(
            lambda: nn.Sequential(
                nn.Conv2d(3, 6, 8), nn.Flatten(), nn.AvgPool1d(3, 1, 1), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)
            ),
            2,
            id="pooling over neighbouring neurons",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.AvgPool2d(3, 1, 1), nn.Conv1d(6, 4, 3)),
            1,
            id="pooling over channels",
        ),
    ],
)
def test_steps_that_mix_channels_are_declined(build, dims):
    model = build()
    assert model(torch.randn(4, 3, *[8] * dims)).isfinite().all()
    with pytest.raises(UnsupportedModelError, match=re.escape(NO_STEP)):
        encode(model)


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (lambda: nn.Conv1d(3, 2, 1), True),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2)), True),
        (lambda: nn.ConvTranspose3d(3, 2, 1), True),
        (lambda: nn.Linear(3, 2), False),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.PReLU()), False),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.GroupNorm(1, 2)), False),
        (lambda: nn.BatchNorm2d(2), False),
    ],
)
def test_matches(build, answer):
    assert matches(build()) is answer
