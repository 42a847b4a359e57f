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


class GraphNetwork(nn.Module):
    """Messages along edges, their sum at each node, and the largest of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.message, self.last = nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        source, target = torch.tensor([[0, 1, 2, 3, 3, 4, 5, 6], [1, 0, 3, 2, 0, 5, 6, 4]], device=x.device)
        hidden = torch.relu(self.first(x))
        messages = torch.relu(self.message(hidden[source]))
        total = hidden.new_zeros(len(x), 10).index_add_(0, target, messages)
        largest = hidden.new_zeros(len(x), 10).scatter_reduce(0, target[:, None].expand(-1, 10), messages, "amax")
        return self.last(torch.cat([total, largest], -1))


class Packed(nn.Module):
    """Sequences of different lengths, packed and padded again."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(9, 6), nn.Linear(16, 3)
        self.cells = nn.LSTM(6, 8, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.tensor([4, 3, 2])
        packed = nn.utils.rnn.pack_padded_sequence(self.tokens(x), lengths, batch_first=True)
        padded, _ = nn.utils.rnn.pad_packed_sequence(self.cells(packed)[0], batch_first=True)
        return self.out(padded.mean(1))


class StepByStep(nn.Module):
    """A loop over time that writes its states into memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.start, self.last = nn.GRUCell(5, 8), nn.Parameter(torch.randn(8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        states = x.new_empty(len(x), x.shape[1] + 1, 8)
        states[:, 0] = self.start
        for step in range(x.shape[1]):
            states[:, step + 1] = self.cell(x[:, step], states[:, step].clone())
        states[states < 0] = 0
        return self.last(states.mean(1))


class Started(nn.Module):
    """An LSTM whose first state is made from other inputs: to each neuron's sums two others' are added."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.memory, self.cell = nn.Linear(5, 8), nn.Linear(5, 8), nn.LSTMCell(5, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.tanh(self.hidden(x[:, 0])), self.memory(x[:, 0])
        for step in range(1, x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.last(state[0])


class Slope(nn.Module):
    """The gradient of a potential by its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.potential = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 10), nn.SiLU(), nn.Linear(10, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.requires_grad_()
            return torch.autograd.grad(self.potential(x)[:, 0].sum(), x, create_graph=True)[0]


class Unpooled(nn.Module):
    """Down and up, to where the largest were."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, largest = nn.functional.max_pool2d(torch.relu(self.first(x)), 2, return_indices=True)
        return self.last(nn.functional.max_unpool2d(torch.relu(self.middle(pooled)), largest, 2))


class Spectral(nn.Module):
    """A Fourier neural operator: complex weights, one a mode, beside real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.beside, self.last = nn.Linear(5, 6), nn.Conv1d(6, 6, 1), nn.Linear(6, 1)
        self.modes = nn.Parameter(torch.randn(6, 6, 3, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).transpose(1, 2)
        modes = torch.einsum("bim,iom->bom", torch.fft.rfft(hidden), self.modes)
        hidden = torch.relu(torch.fft.irfft(modes, n=hidden.shape[-1]) + self.beside(hidden))
        return self.last(hidden.transpose(1, 2))


class SparseGraph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(10, 3)
        self.register_buffer("adjacent", torch.eye(7).roll(1, 0).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.sparse.mm(self.adjacent, torch.relu(self.first(x)))
        return self.last(torch.relu(self.second(hidden)))


class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.EmbeddingBag(9, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.words(x))


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


def tokens() -> Tensor:
    return torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0], [8, 1, 0, 0]])


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
    "graph network": (GraphNetwork, vectors, 0.98),
    "packed sequences": (Packed, tokens, 0.9),
    "step by step": (StepByStep, sequences, 0.99),
    "state from data": (Started, sequences, 0.99),
    "gradient": (Slope, vectors, 0.99),
    "unpooled": (Unpooled, image(4), 0.98),
    "Fourier neural operator": (Spectral, sequences, 0.99),
    "sparse graph": (SparseGraph, vectors, 0.98),
    "bag of words": (BagOfWords, tokens, 0.9),
    "concatenations": (Inception, image(6), 0.99),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    make, inputs, share = NETWORKS[name]
    model, x = make(), inputs()
    graph = trace(model, x)
    assert graph.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    check_encoding(model, x, graph, min_share=share)


def test_messages_come_from_the_first_layer():
    graph = trace(GraphNetwork(), vectors())
    edges = {block.parameter: (block.src.name, block.dst.name) for block in graph.edges if block.parameter}
    assert edges["first.weight"][1] == edges["message.weight"][0]
    assert {block.src.name for block in graph.blocks["last.weight"]} == {edges["message.weight"][1]}


def test_gates_to_which_data_is_added_are_whole():
    assert len(trace(Started(), sequences()).neurons) < 25


def test_what_is_added_to_inputs_goes_on():
    """Neurons whose order the inputs fix are the next layer's all the same."""
    layer = nn.TransformerEncoderLayer(6, 2, 10, batch_first=True)
    graph = trace(layer, torch.randn(2, 4, 6))
    (hidden,) = {block.dst.name for block in graph.blocks["linear1.weight"]}
    (residual,) = {block.dst.name for block in graph.blocks["self_attn.out_proj.weight"]}
    assert {block.src.name for block in graph.blocks["linear1.weight"]} == {residual}
    assert {block.src.name for block in graph.blocks["linear2.weight"]} == {hidden}


def test_one_output_is_one_neuron():
    graph = trace(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)), vectors())
    assert [(block.dst.name, block.dst.size) for name in ("2.weight", "2.bias") for block in graph.blocks[name]] == [
        ("2", 1),
        ("2", 1),
    ]


def test_states_in_memory_are_the_cells():
    graph = trace(StepByStep(), sequences())
    (cell,) = {block.src.name for block in graph.blocks["cell.weight_hh"]}
    assert {block.src.name for block in graph.blocks["last.weight"]} == {cell}
    assert {block.dst.name for block in graph.blocks["start"]} == {cell}


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
