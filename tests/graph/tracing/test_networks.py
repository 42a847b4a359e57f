"""Networks of many kinds: traced, and proved to be described rightly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ninokit.graph import EdgeKind, trace
from ninokit.testing import check_encoding


class UNet(nn.Module):
    """Down, up, and what was before beside what comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.below = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norm, self.up = nn.GroupNorm(4, 8), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.norm(torch.relu(self.down(x)))
        below = torch.relu(self.below(nn.functional.max_pool2d(kept, 2)))
        return self.out(torch.cat([kept, self.up(below)], 1))


class Recurrent(nn.Module):
    def __init__(self, cell: Any, **settings: Any) -> None:
        super().__init__()
        self.cells = cell(5, 8, 2, batch_first=True, **settings)
        self.out = nn.Linear(16 if settings.get("bidirectional") else settings.get("proj_size", 8), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x)[0][:, -1])


class Experts(nn.Module):
    """Stacked in one parameter, all of them asked."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(6, 12), nn.Linear(12, 4), nn.Linear(12, 3)
        self.up, self.down = nn.Parameter(torch.randn(4, 12, 20)), nn.Parameter(torch.randn(4, 20, 12))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        gates = self.router(hidden).softmax(-1)
        inside = torch.relu(torch.einsum("bi,eih->ebh", hidden, self.up))
        answers = torch.einsum("ebh,eho->ebo", inside, self.down)
        return self.last(hidden + torch.einsum("be,ebo->bo", gates, answers))


class Routed(nn.Module):
    """Each example goes to two experts of four, which are found by their number and so keep it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(6, 12), nn.Linear(12, 4), nn.Linear(12, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        weights, chosen = self.router(hidden).topk(2, -1)
        total = hidden
        for number, expert in enumerate(self.experts):
            share = ((chosen == number) * weights.softmax(-1)).sum(-1, keepdim=True)
            total = total + share * expert(hidden)
        return self.last(total)


class Shared(nn.Module):
    """One layer, twice in a row, each time beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        for _ in range(2):
            x = x + torch.tanh(self.middle(x))
        return self.last(x)


class Inception(nn.Module):
    """Branches side by side, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 2, 5, padding=2)])
        self.two = nn.ModuleList([nn.Conv2d(12, 4, 1), nn.Conv2d(12, 4, 3, padding=1)])
        self.norm, self.last = nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for branches in (self.one, self.two):
            x = torch.relu(torch.cat([branch(x) for branch in branches], 1))
        return self.last(self.norm(x).mean((2, 3)))


def shuffled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ChannelShuffle(2),
        nn.Conv2d(8, 12, 1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 3),
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.GroupNorm(3, 12), nn.SiLU(), nn.Conv2d(12, 6, 1), nn.Flatten(), nn.Linear(24, 2)
    )


def image(size: int, examples: int = 2) -> Callable[[], Tensor]:
    return lambda: torch.randn(examples, 3, size, size)


def vectors() -> Tensor:
    return torch.randn(7, 6)


def sequences() -> Tensor:
    return torch.randn(2, 4, 5)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], float]] = {
    # name → the network, its inputs, and the share of the parameters that move at least
    "U-Net": (UNet, image(8), 0.99),
    "LSTM": (lambda: Recurrent(nn.LSTM), sequences, 0.99),
    "LSTM both ways": (lambda: Recurrent(nn.LSTM, bidirectional=True), sequences, 0.99),
    "LSTM with projections": (lambda: Recurrent(nn.LSTM, proj_size=6), sequences, 0.95),
    "GRU": (lambda: Recurrent(nn.GRU), sequences, 0.99),
    "GRU both ways": (lambda: Recurrent(nn.GRU, bidirectional=True), sequences, 0.99),
    "recurrent": (lambda: Recurrent(nn.RNN), sequences, 0.97),
    "experts": (Experts, vectors, 0.99),
    "routed experts": (Routed, vectors, 0.96),
    "shared layer": (Shared, vectors, 0.97),
    "group norm": (grouped, image(4), 0.99),
    "channel shuffle": (shuffled, image(4), 0.99),
    "concatenations": (Inception, image(6), 0.99),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    make, inputs, share = NETWORKS[name]
    model, x = make(), inputs()
    graph = trace(model, x)
    assert graph.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    check_encoding(model, x, graph, min_share=share)


def test_gates_of_an_lstm():
    """Four gates of each neuron in one parameter, in windows that move together."""
    graph = trace(Recurrent(nn.LSTM), sequences())
    windows = [block.view.window[0] for block in graph.blocks["cells.weight_ih_l0"]]
    assert sorted(windows) == [(0, 8), (8, 16), (16, 24), (24, 32)]
    assert {(block.dst.size, block.dst.rigid) for block in graph.blocks["cells.weight_hh_l0"]} == {(8, 1)}


def test_stacked_experts_are_taps():
    """The graph claims less than it could: experts keep their order, and with them the router's neurons."""
    graph = trace(Experts(), vectors())
    for name in ("up", "down"):
        (block,) = graph.blocks[name]
        assert (block.num_taps, block.dst.rigid) == (4, 1)
    (router,) = graph.blocks["router.weight"]
    assert router.dst.rigid == 4


def torchvision(name: str, **settings: Any) -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    found = models.optical_flow if name.startswith("raft") else models
    return getattr(found, name)(**settings)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_networks_of_torchvision(name):
    model, x = torchvision(name, num_classes=5), torch.randn(1, 3, 32, 32)
    check_encoding(model, x, trace(model, x), draws=1, min_share=0.99)


def test_windows_of_attention():
    """A small network of the kind is proved; the large one is as free."""
    module = pytest.importorskip("torchvision.models.swin_transformer")
    settings = {"patch_size": [4, 4], "window_size": [2, 2], "stochastic_depth_prob": 0.0, "num_classes": 5}
    model = module.SwinTransformer(embed_dim=8, depths=[2, 2], num_heads=[2, 4], **settings)
    x = torch.randn(1, 3, 32, 32)
    check_encoding(model, x, trace(model, x), draws=1, min_share=0.98)
    graph = trace(torchvision("swin_t", num_classes=5), torch.empty(1, 3, 32, 32))
    qkv = [block for name, found in graph.blocks.items() if name.endswith("qkv.weight") for block in found]
    assert len({block.parameter for block in qkv}) == 12
    assert sum(block.kind is EdgeKind.VALUE for block in qkv) == 12
    assert all(group.rigid == 1 for group in graph.neurons if ".mlp.0" in group.name)


def test_optical_flow():
    """The network asks for positions that it computes: those keep their order, its channels need not."""
    model = torchvision("raft_large")
    frames = torch.empty(1, 3, 128, 128)
    graph = trace(model, {"image1": frames, "image2": frames, "num_flow_updates": 2})
    assert graph.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert graph.left_out == ()
    free = {group.name for group in graph.neurons if group.rigid == 1}
    inner = [block for block in graph.edges if block.parameter and block.parameter.endswith("weight")]
    assert sum(block.dst.name in free for block in inner) > 0.8 * len(inner)
