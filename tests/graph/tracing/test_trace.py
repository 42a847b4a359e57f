"""Traced graphs of small networks, written down by hand; and what tracing leaves alone."""

from __future__ import annotations

import copy
import dataclasses
import io
import logging
import re
import threading
from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ninokit
from ninokit.builtin import tracer
from ninokit.encoding import Architecture, architectures
from ninokit.errors import ArchitectureError, UnsupportedModelError
from ninokit.graph import NeuralGraph, trace
from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.rules import RULES
from ninokit.nowcasters.nino import Nino
from ninokit.plugins import Registry
from ninokit.testing import check_encoding


def groups(graph: NeuralGraph) -> dict[str, tuple[int, int]]:
    """Name → size, and how many keep their order."""
    return {group.name: (group.size, group.rigid) for group in graph.neurons}


def blocks(graph: NeuralGraph) -> list[tuple[Any, ...]]:
    """(parameter, kind, from, to), then the window, the taps and the slices where they are not all there is."""
    found = []
    for block in graph.edges:
        row: list[Any] = [block.parameter, block.kind.name.lower(), block.src.name, block.dst.name]
        if block.view is not None:
            shape = graph.parameters[block.parameter]
            if block.view.window != tuple((0, size) for size in shape):
                row.append(block.view.window)
            if block.view.taps != (0, 1):
                row.append(f"taps {block.view.taps[0]}:{block.view.taps[1]}")
        if block.groups > 1:
            row.append(f"{block.groups} slices")
        found.append(tuple(row))
    return found


class TestByHand:
    def test_one_layer(self):
        graph = trace(nn.Linear(3, 2), torch.empty(1, 3))
        assert groups(graph) == {"(output)": (2, 2), "(input)": (3, 3), "bias": (1, 1)}
        assert graph.roles == {"(output)": "output", "(input)": "input"}
        assert blocks(graph) == [
            ("weight", "linear", "(input)", "(output)"),
            ("bias", "bias", "bias", "(output)"),
        ]
        assert graph.left_out == ()
        assert graph.parameters == {"weight": (2, 3), "bias": (2,)}

    def test_two_layers(self):
        graph = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.empty(1, 4))
        assert groups(graph) == {
            "0": (8, 1),
            "(input of 0)": (4, 4),
            "2": (2, 2),
            "0.bias": (1, 1),
            "2.bias": (1, 1),
        }
        assert graph.roles == {"(input of 0)": "input", "2": "output"}
        assert blocks(graph) == [
            ("0.weight", "linear", "(input of 0)", "0"),
            ("0.bias", "bias", "0.bias", "0"),
            ("2.weight", "linear", "0", "2"),
            ("2.bias", "bias", "2.bias", "2"),
        ]

    def test_norms(self):
        model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 2, bias=False))
        assert blocks(trace(model, torch.empty(3, 4))) == [
            ("0.weight", "linear", "(input of 0)", "0"),
            ("1.weight", "norm_scale", "1.weight", "0"),
            ("1.bias", "bias", "1.bias", "0"),
            ("2.weight", "linear", "0", "2"),
        ]

    def test_convolutions_and_flattening(self):
        """4 channels at 4 × 3 positions: the last layer reads each at 12 places, in two blocks of at most 9."""
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, (1, 2), groups=4, bias=False),
            nn.Flatten(),
            nn.Linear(48, 2),
        )
        graph = trace(model, torch.empty(2, 3, 6, 6))
        assert groups(graph) == {
            "0": (4, 1),
            "(input of 0)": (3, 3),
            "3": (4, 1),
            "5": (2, 2),
            **dict.fromkeys(("0.bias", "1.weight", "1.bias", "5.bias"), (1, 1)),
        }
        assert blocks(graph) == [
            ("0.weight", "convolution", "(input of 0)", "0", "taps 0:9"),
            ("0.bias", "bias", "0.bias", "0"),
            ("1.weight", "norm_scale", "1.weight", "0"),
            ("1.bias", "bias", "1.bias", "0"),
            ("3.weight", "convolution", "0", "3", "taps 0:2", "4 slices"),
            ("5.weight", "linear", "3", "5", "taps 0:9"),
            ("5.weight", "linear", "3", "5", "taps 9:12"),
            ("5.bias", "bias", "5.bias", "5"),
        ]
        # A tap is a position of one channel.
        weight = torch.arange(96).reshape(2, 48)
        first = next(block for block in graph.edges if block.parameter == "5.weight")
        assert torch.equal(first.view(weight)[0], weight.reshape(2, 4, 12)[:, :, :9])

    def test_places_that_are_no_progression(self):
        """A channel's 4 × 4 positions come to lie in every other row and column: a view reads four."""
        model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(128, 3, bias=False))
        graph = trace(model, torch.empty(2, 3, 4, 4))
        assert {block.num_taps for block in graph.blocks["3.weight"]} == {4}
        check_encoding(model, torch.randn(2, 3, 4, 4), graph, min_share=0.99)

    def test_residual_connection(self):
        class Residual(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(4, 4, bias=False)
                self.c = nn.Linear(4, 2, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                hidden = self.a(x)
                return self.c(hidden + torch.relu(self.b(hidden)))

        graph = trace(Residual(), torch.empty(2, 3))
        assert groups(graph) == {"a": (4, 1), "(input of a)": (3, 3), "b": (4, 1), "c": (2, 2)}
        # From the older neurons to the younger, which are what goes on.
        assert blocks(graph) == [
            ("a.weight", "linear", "(input of a)", "a"),
            ("b.weight", "linear", "a", "b"),
            ("c.weight", "linear", "b", "c"),
            (None, "residual", "a", "b", "4 slices"),
        ]

    def test_attention(self):
        class Attention(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.qkv, self.out = nn.Linear(4, 12, bias=False), nn.Linear(4, 3, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
                attention = (q @ k.transpose(-1, -2)).softmax(-1)
                return self.out((attention @ v).transpose(1, 2).flatten(2))

        graph = trace(Attention(), torch.empty(2, 5, 4))
        # Queries and keys are one group: their channels meet. Keys lead back to what they read.
        assert groups(graph) == {
            "qkv[0:4]": (4, 1),
            "qkv[8:12]": (4, 1),
            "(input of qkv)": (4, 4),
            "qkv.heads": (2, 1),
            "out": (3, 3),
        }
        assert blocks(graph) == [
            ("qkv.weight", "query", "(input of qkv)", "qkv[0:4]", ((0, 4), (0, 4))),
            ("qkv.weight", "key", "qkv[0:4]", "(input of qkv)", ((4, 8), (0, 4))),
            ("qkv.weight", "value", "(input of qkv)", "qkv[8:12]", ((8, 12), (0, 4))),
            ("out.weight", "linear", "qkv[8:12]", "out"),
            (None, "attention_head", "qkv.heads", "qkv[0:4]", "2 slices"),
            (None, "attention_head", "qkv.heads", "qkv[8:12]", "2 slices"),
        ]

    def test_concatenation(self):
        class Beside(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(3, 5, bias=False)
                self.c = nn.Linear(12, 2, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                return self.c(torch.cat([torch.relu(self.a(x)), x, torch.tanh(self.b(x))], -1))

        graph = trace(Beside(), torch.empty(2, 3))
        assert groups(graph) == {"a": (4, 1), "(input of a)": (3, 3), "b": (5, 1), "c": (2, 2)}
        assert blocks(graph) == [
            ("a.weight", "linear", "(input of a)", "a"),
            ("b.weight", "linear", "(input of a)", "b"),
            ("c.weight", "linear", "a", "c", ((0, 2), (0, 4))),
            ("c.weight", "linear", "(input of a)", "c", ((0, 2), (4, 7))),
            ("c.weight", "linear", "b", "c", ((0, 2), (7, 12))),
        ]

    def test_embeddings(self):
        class Tokens(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.token, self.place = nn.Embedding(7, 4), nn.Embedding(9, 4)
                self.out = nn.Linear(4, 2, bias=False)

            def forward(self, ids: Tensor) -> Tensor:
                return self.out(self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device)))

        graph = trace(Tokens(), torch.randint(0, 7, (2, 5)))
        # Rows of positions do not depend on the inputs: they are a bias of the tokens' neurons.
        assert groups(graph) == {
            "token": (4, 1),
            "out": (2, 2),
            "token.weight[rows]": (7, 7),
            "place.weight[rows]": (9, 9),
        }
        assert blocks(graph) == [
            ("token.weight", "token_embedding", "token.weight[rows]", "token"),
            ("place.weight", "position_embedding", "place.weight[rows]", "token"),
            ("out.weight", "linear", "token", "out"),
        ]

    def test_tied_weights(self):
        """The table is the output layer too: its columns are the stream, its rows the outputs."""

        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.token, self.hidden = nn.Embedding(7, 4), nn.Linear(4, 4, bias=False)
                self.out = nn.Linear(4, 7, bias=False)
                self.out.weight = self.token.weight

            def forward(self, ids: Tensor) -> Tensor:
                x = self.token(ids)
                return self.out(x + torch.tanh(self.hidden(x)))

        model, ids = Tied(), torch.randint(0, 7, (2, 5))
        graph = trace(model, ids)
        assert list(graph.parameters) == ["token.weight", "hidden.weight"]
        assert blocks(graph) == [
            ("token.weight", "token_embedding", "token.weight[rows]", "token"),
            ("hidden.weight", "linear", "token", "hidden"),
            (None, "residual", "token", "hidden", "4 slices"),
        ]
        check_encoding(model, ids, graph, min_share=0.9)

    def test_a_layer_used_twice(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
        model.insert(3, model[1])
        graph = trace(model, torch.randn(2, 3))
        check_encoding(model, torch.randn(2, 3), graph, min_share=0.8)
        # What it reads first and what it writes are in one order, since it reads that too.
        assert blocks(graph)[2] == ("1.weight", "linear", "0", "0")


def tiny() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.Conv2d(4, 4, 1),
        nn.Flatten(),
        nn.Linear(36, 2),
    )


class TestLeftAlone:
    def test_the_network(self):
        model = tiny()
        model[3].eval()
        model[0].weight.requires_grad_(False)
        model(torch.randn(2, 3, 5, 5)).sum().backward()
        before, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
        tensors = [*model.parameters(), *model.buffers()]
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        x = torch.randn(2, 3, 5, 5, requires_grad=True)
        numbers, state = x.detach().clone(), torch.get_rng_state()
        trace(model, x)
        assert [module.training for module in model.modules()] == flags
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(a is b for a, b in zip([*model.parameters(), *model.buffers()], tensors, strict=True))
        for p, grad in zip(model.parameters(), grads, strict=True):
            assert (p.grad is None and grad is None) or torch.equal(p.grad, grad)
        assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 7]
        assert torch.equal(x.detach(), numbers)
        assert x.grad is None
        assert x.requires_grad
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.is_grad_enabled()

    def test_a_network_that_runs_where_it_is(self):
        class Counts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.last = nn.Linear(3, 2)
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, x: Tensor) -> Tensor:
                self.calls += 1
                x += 1
                return self.last(x) if x.sum() > 0 else self.last(-x)

        model, x = Counts(), torch.ones(2, 3)
        trace(model, x)
        assert model.calls == 0
        assert torch.equal(x, torch.ones(2, 3))
        assert model.training

    @pytest.mark.parametrize("fast", [True, False])
    def test_attention_is_as_fast_afterwards(self, fast):
        before = torch.backends.mha.get_fastpath_enabled()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        try:
            torch.backends.mha.set_fastpath_enabled(fast)
            trace(layer, torch.randn(2, 5, 8))
            assert torch.backends.mha.get_fastpath_enabled() is fast
            with pytest.raises(UnsupportedModelError):
                trace(layer, torch.randn(2, 5, 9))
            assert torch.backends.mha.get_fastpath_enabled() is fast
        finally:
            torch.backends.mha.set_fastpath_enabled(before)

    def test_no_parameter_is_copied(self, monkeypatch):
        """4 GB of numbers that are all one number in memory: a copy would be seen."""
        one = torch.zeros(1)
        model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(4)])
        for layer in model:
            layer.weight = nn.Parameter(one.expand(16384, 16384))
            layer.bias = nn.Parameter(one.expand(16384))

        def copies(tensor: Tensor, *_: Any) -> Tensor:
            raise AssertionError(f"{tuple(tensor.shape)} is copied")

        monkeypatch.setattr(nn.Parameter, "__deepcopy__", copies)
        graph = trace(model, torch.empty(1, 16384, device="meta"))
        assert graph.num_parameters == 4 * (16384**2 + 16384)

    def test_no_hidden_network_is_copied(self, monkeypatch):
        def copies(tensor: Tensor, *_: Any) -> Tensor:
            raise AssertionError(f"{tuple(tensor.shape)} is copied")

        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        model.teacher, model.cache = [nn.Linear(3, 4)], {"seen": torch.randn(5).requires_grad_()}
        monkeypatch.setattr(Tensor, "__deepcopy__", copies)
        assert trace(model, torch.empty(1, 3)).num_parameters == 16

    def test_large_activations_take_no_memory(self):
        """A batch of 2 million images of 224 × 224 would be terabytes."""
        graph = trace(nn.Conv2d(3, 8, 3), torch.empty(2_000_000, 3, 224, 224, device="meta"))
        assert graph.num_parameters == 8 * 3 * 9 + 8


def test_parameters_that_are_not_used(caplog):
    caplog.set_level(logging.INFO, logger="ninokit")

    class Spare(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.first = nn.Linear(3, 2)
            for index in range(number):
                self.register_parameter(f"spare{index}", nn.Parameter(torch.zeros(2)))

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x)

    for number, listed in (
        (1, "spare0"),
        (5, "spare0, spare1, spare2, spare3, spare4"),
        (7, "spare0, spare1, spare2, spare3, spare4 and 2 more"),
    ):
        caplog.clear()
        model = Spare(number)
        graph = trace(model, torch.empty(1, 3))
        assert caplog.messages == [f"Spare does not use {listed}; left alone"]
        assert graph.left_out == tuple(f"spare{index}" for index in range(number))
        assert list(graph.parameters) == ["first.weight", "first.bias"]
        check_encoding(model, torch.randn(4, 3), graph)


class Branch(nn.Module):
    """Asks for a number, which there is none of on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.positive, self.negative = nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.positive(hidden) if x.sum() > 0 else self.negative(hidden)


def test_a_network_that_asks_for_a_number(caplog):
    caplog.set_level(logging.INFO, logger="ninokit")
    model = Branch()
    graph = trace(model, torch.ones(2, 3))
    assert re.fullmatch(
        r"Branch does not run on the meta device \(.*\); running a copy where it is", caplog.messages[0], re.DOTALL
    )
    assert graph.left_out == ("negative.weight", "negative.bias")
    assert trace(model, -torch.ones(2, 3)).left_out == ("positive.weight", "positive.bias")
    assert blocks(graph)[0] == ("first.weight", "linear", "(input of first)", "first")
    assert groups(graph)["first"] == (5, 1)
    check_encoding(model, torch.ones(2, 3), graph, min_share=0.8)


def test_a_network_that_can_not_be_copied():
    model = nn.Sequential(nn.Linear(4, 2))
    model.lock = threading.Lock()
    message = (
        "Sequential can't be copied, and only a copy may be run: TypeError: cannot pickle '_thread.lock' object; keep "
        "what can't be copied out of the modules' attributes"
    )
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(message)}$"):
        trace(model, torch.randn(2, 4))


def test_a_network_that_runs_where_it_is_leaves_torchs_random_state():
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = torch.rand(2)
            return self.layer(x + noise[0].item())

    model, before = Noisy(), torch.get_rng_state()
    trace(model, torch.ones(2, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_does_not_run():
    message = (
        "Linear does not run on the example inputs: RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x4 and "
        "3x2); give inputs that the network takes in evaluation mode"
    )
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(message)}$"):
        trace(nn.Linear(3, 2), torch.randn(2, 4))


def test_a_network_without_parameters_in_use():
    class Idle(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x

    message = "Idle uses none of its parameters on the example inputs"
    with pytest.raises(UnsupportedModelError, match=f"^{message}$"):
        trace(Idle(3, 2), torch.randn(2, 3))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor, y: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:
        return {"answer": self.c(torch.tanh(scale * self.a(x) + self.b(y)))}


def test_ways_of_calling():
    x, y = torch.randn(2, 3), torch.randn(2, 4)
    calls = [(x, y), [x, y], {"x": x, "y": y}, {"y": y, "x": x, "scale": 2.0}]
    graphs = [trace(Two(), call) for call in calls]
    assert all(blocks(graph) == blocks(graphs[0]) for graph in graphs)
    assert graphs[0].roles == {"(input of a)": "input", "(input of b)": "input", "c": "output"}
    assert groups(graphs[0])["c"] == (2, 2)


def test_a_tokenizers_batch():
    """A mapping, but no dictionary, into which torch's pytrees do not go."""

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.hidden, self.out = nn.Embedding(20, 6), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, words):
            return self.out(torch.relu(self.hidden(self.table(words))))

    batch = {"words": torch.randint(0, 20, (2, 5))}
    expected = trace(Words(), batch)
    assert [block.kind.name for block in expected.edges if "weight" in block.parameter] == [
        *("TOKEN_EMBEDDING", "LINEAR", "LINEAR")
    ]
    assert trace(Words(), UserDict(batch)) == expected


@pytest.mark.parametrize("made", ["kept", "drawn"])
def test_a_network_that_makes_its_own_inputs(made):
    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("grid", torch.rand(9, 2))
            self.layers = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))

        def forward(self, count=9):
            return self.layers(self.grid if made == "kept" else torch.rand(count, 2))

    model = Field()
    inside = trace(model, () if made == "kept" else (9,))
    outside = trace(model.layers, torch.rand(9, 2))
    assert [(b.kind, b.src.size, b.dst.size) for b in inside.edges] == [
        (b.kind, b.src.size, b.dst.size) for b in outside.edges
    ]


def test_a_network_that_differentiates_by_its_inputs():
    class Forces(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, positions):
            positions = positions.clone().requires_grad_()
            return torch.autograd.grad(self.energy(positions).sum(), positions, create_graph=True)[0]

    model, positions = Forces(), torch.randn(3, 4)
    graph = trace(model, positions)
    assert [(block.parameter, block.kind.name) for block in graph.edges] == [
        *(("energy.0.weight", "LINEAR"), ("energy.0.bias", "BIAS")),
        *(("energy.2.weight", "LINEAR"), ("energy.2.bias", "BIAS")),
    ]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_another_default_device():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))
    images = torch.randn(2, 1, 5, 5)
    expected = trace(model, images)
    torch.set_default_device("meta")
    try:
        assert trace(model, images) == expected
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("said", [None, "x", [], [3], "axes of another shape"])
def test_a_rule_that_says_something_else_is_left_out(said, caplog):
    def rule(call: Any) -> Any:
        return Axes(()) if said == "axes of another shape" else said

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = trace(model, torch.empty(1, 3), rules={**RULES, "aten.relu": rule})
    assert re.fullmatch(
        r"the rule of aten\.relu is left out: expected Axes of the shapes \[\(1, 4\)\]; got .{1,9}", caplog.messages[0]
    )
    check_encoding(model, torch.randn(2, 3), graph)


def test_the_same_graph_each_time():
    model = nn.Transformer(8, 2, 1, 1, 12, batch_first=True)
    inputs = (torch.randn(2, 5, 8), torch.randn(2, 4, 8))
    first, second = trace(model, inputs), trace(model, inputs)
    assert first == second
    assert first.describe() == second.describe()
    # Neither the numbers nor how many examples there are count.
    others = (torch.randn(3, 6, 8), torch.randn(3, 7, 8))
    assert blocks(trace(copy.deepcopy(model).train(False), others)) == blocks(first)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precisions(dtype):
    plain = trace(tiny(), torch.randn(2, 3, 5, 5))
    other = trace(tiny().to(dtype), torch.randn(2, 3, 5, 5, dtype=dtype))
    assert other == plain


def test_networks_on_the_meta_device():
    with torch.device("meta"):
        model = tiny()
    assert trace(model, torch.empty(2, 3, 5, 5)) == trace(tiny(), torch.empty(2, 3, 5, 5))


def test_grad_modes():
    plain = trace(tiny(), torch.randn(2, 3, 5, 5))

    with torch.no_grad():
        assert trace(tiny(), torch.randn(2, 3, 5, 5)) == plain
    with torch.inference_mode():
        assert trace(tiny(), torch.randn(2, 3, 5, 5)) == plain

    class Inferring(nn.Sequential):
        @torch.inference_mode()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    assert trace(Inferring(*tiny()), torch.randn(2, 3, 5, 5)) == plain


class State(nn.Module):
    """Makes a tensor without saying on which device, and writes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), 6)
        state[:] = torch.relu(self.first(x))
        return self.last(state + torch.zeros(len(x), 6))


def test_tensors_that_the_network_makes_elsewhere():
    graph = trace(State(), torch.randn(2, 4))
    assert blocks(graph)[2] == ("last.weight", "linear", "first", "last")
    check_encoding(State(), torch.randn(2, 4), graph, min_share=0.9)


# Through the other doors.


class Odd(nn.Module):
    """No family but the tracer's takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sigmoid(self.gate(x)) * torch.tanh(self.first(x)))


@pytest.fixture
def compiled() -> Any:
    torch.compiler.reset()
    yield torch.compile
    torch.compiler.reset()


def test_wrapped_networks(compiled):
    model, x = Odd(), torch.randn(2, 4)
    plain = ninokit.encode(model, x)
    assert plain == trace(model, x)
    for wrapped in (compiled(model), nn.DataParallel(model), nn.DataParallel(compiled(model))):
        assert ninokit.encode(wrapped, x) == plain


def test_the_tracer_is_asked_last(monkeypatch):
    assert list(architectures())[-1] == "traced"
    registry = Registry(strict=True)
    for plugin, name in ((tracer, "tracer"), (Stranger("later"), "stranger")):
        registry.register(plugin, name)
    assert list(registry.architectures()) == ["later", "traced"]
    registry = Registry(strict=True)
    for plugin, name in ((Stranger("earlier"), "stranger"), (tracer, "tracer")):
        registry.register(plugin, name)
    assert list(registry.architectures()) == ["earlier", "traced"]


class Stranger:
    """A third-party plugin with one family."""

    def __init__(self, name: str) -> None:
        self.name = name

    @ninokit.hookimpl
    def ninokit_architectures(self) -> list[Architecture]:
        return [Architecture(self.name, "", lambda _: False, lambda model, inputs: None)]


def test_what_encoders_take_is_not_traced():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(2, 4)
    assert ninokit.encode(model, x) == ninokit.encode(model, architecture="mlp")
    assert ninokit.encode(model, x, architecture="traced") == trace(model, x)


def test_without_example_inputs():
    with pytest.raises(ArchitectureError) as caught:
        ninokit.encode(Odd())
    assert "\n  traced: needs example inputs to run the network; pass example_inputs=…\n" in str(caught.value)
    with pytest.raises(ArchitectureError) as caught:
        ninokit.encode(Odd(), torch.randn(2, 5))
    assert "\n  traced: Odd does not run on the example inputs: RuntimeError: " in str(caught.value)


def nowcaster(name: str) -> Any:
    if name == "linefit":
        return ninokit.nowcasters.LineFit(max_horizon=3)
    torch.manual_seed(1)
    return Nino(hidden=8, layers=1, max_horizon=3).eval()


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["linefit", "nino"])
def test_training_and_resuming(name):
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(16, 4, generator=generator) for _ in range(40)]
    batches = [(x, x.sin().sum(1, keepdim=True)) for x in inputs]
    start = Odd()
    settings: dict[str, Any] = {"period": 10, "total_steps": 40, "example_inputs": batches[0][0]}

    def attached(model: nn.Module) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return optimizer, ninokit.attach(optimizer, model, nowcaster(name), **settings)

    through = copy.deepcopy(start)
    optimizer, nowcasting = attached(through)
    losses = steps(through, optimizer, batches)
    assert [(event.step, event.accepted) for event in nowcasting.events] == [(10, True), (20, True), (30, True)]
    assert losses[-1] < losses[0]

    first = copy.deepcopy(start)
    optimizer, _ = attached(first)
    steps(first, optimizer, batches[:17])
    saved = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    second = Odd()
    optimizer, _ = attached(second)
    state = torch.load(saved, weights_only=True)
    second.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert losses[17:] == steps(second, optimizer, batches[17:])
    for a, b in zip(through.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@dataclasses.dataclass
class Answer:
    hidden: torch.Tensor


class Answering(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)

    def forward(self, x):
        return Answer(self.first(x))


def test_what_a_dataclass_returns_keeps_its_order():
    graph = trace(Answering(), torch.randn(2, 3))
    assert graph.roles == {"(input of first)": "input", "first": "output"}
