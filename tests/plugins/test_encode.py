"""`ninokit.encode`: which family answers, and what it says when none does."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import ninokit
from ninokit.encoding import Architecture, unwrap
from ninokit.errors import ArchitectureError, GraphError, UnsupportedModelError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.plugins import Registry

ADVICE = (
    "\nBuild its graph with ninokit.graph.GraphBuilder and pass it to attach(graph=…), or register an architecture."
)


def refusal(message: str) -> pytest.RaisesExc:
    return pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$")


def refused(model: nn.Module) -> str:
    with pytest.raises(ArchitectureError) as caught:
        ninokit.encode(model)
    return str(caught.value)


@pytest.fixture
def families(monkeypatch):
    """Put families of the test in front of, or in place of, the registered ones."""

    def use(*offered: Architecture) -> None:
        found = {family.name: family for family in offered}
        monkeypatch.setattr(Registry, "architectures", lambda _: found)

    return use


def test_right_family_answers():
    assert list(ninokit.encode(nn.Linear(3, 2)).parameters) == ["weight", "bias"]
    assert ninokit.encode(nn.Conv2d(3, 2, 3)).edges[0].kind == EdgeKind.CONVOLUTION


def test_message_has_the_reason_of_each_family():
    class Residual(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x)

    message = refused(nn.Sequential(nn.Embedding(4, 3)))
    first, *reasons, advice = message.split("\n")
    assert first == "no architecture encodes Sequential:"
    assert {"  mlp: does not match", "  cnn: does not match"} <= set(reasons)
    assert "\n" + advice == ADVICE
    message = refused(Residual(3, 3))
    assert message.startswith("no architecture encodes Residual:\n")
    assert "\n  mlp: the output of 'x' is used 2 times; in a chain once\n" in message


def test_attention_layers_are_no_chains():
    for family in ("mlp", "cnn"):
        assert not ninokit.architectures()[family].matches(nn.TransformerEncoderLayer(8, 2, 16))


def test_families_are_asked_in_turn(families):
    asked = []

    def family(name: str, matching: bool, reason: str | None) -> Architecture:
        def matches(model: nn.Module) -> bool:
            asked.append(f"{name} matches")
            return matching

        def encode(model: nn.Module, example_inputs: object) -> NeuralGraph:
            asked.append(f"{name} encode {example_inputs}")
            if reason:
                raise UnsupportedModelError(reason)
            builder = GraphBuilder(model)
            builder.vector(EdgeKind.BIAS, builder.neurons(name, 2), parameter="weight", axes="dst 1")
            return builder.build()

        return Architecture(name, "", matches, encode)

    model = nn.Linear(1, 2, bias=False)
    families(family("a", False, None), family("b", True, "too odd"), family("c", True, None), family("d", True, None))
    assert ninokit.encode(model, "inputs").neurons[0].name == "c"
    assert asked == ["a matches", "b matches", "b encode inputs", "c matches", "c encode inputs"]
    # A family that is named is not asked whether it matches.
    asked.clear()
    assert ninokit.encode(model, architecture="a").neurons[0].name == "a"
    assert asked == ["a encode None"]
    with refusal(f"no architecture encodes Linear:\n  b: too odd{ADVICE}"):
        ninokit.encode(model, architecture="b")
    families(family("a", False, None), family("b", True, "too odd"))
    with refusal(f"no architecture encodes Linear:\n  a: does not match\n  b: too odd{ADVICE}"):
        ninokit.encode(model)
    families()
    with refusal(f"no architecture encodes Linear:\n  none is registered{ADVICE}"):
        ninokit.encode(model)


def test_a_wrong_graph_of_the_family_that_is_named_is_an_error_of_its_own(families):
    families(Architecture("forgetful", "", lambda _: True, lambda model, _: GraphBuilder(model).build()))
    with pytest.raises(GraphError, match=r"^weight: 6 of its 6 numbers \(shape \(2, 3\)\) are on no edge; "):
        ninokit.encode(nn.Linear(3, 2), architecture="forgetful")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda model, _: GraphBuilder(model).build(), "GraphError: weight: 6 of its 6 numbers (shape (2, 3)) are on"),
        (lambda model, _: None, "TypeError: it must return a NeuralGraph, and returned None)"),
    ],
)
def test_after_a_broken_family_the_next_is_asked(families, broken, reason, caplog):
    families(Architecture("broken", "", lambda _: True, broken), ninokit.architectures()["mlp"])
    assert ninokit.encode(nn.Linear(3, 2)).num_edges == 8
    assert caplog.messages[0].startswith(f"the architecture broken failed on Linear: broken ({reason}")


def test_unknown_architecture():
    known = sorted(ninokit.architectures())
    with refusal(f"architecture: there is none named 'perceptron'; registered are {known}"):
        ninokit.encode(nn.Linear(3, 2), architecture="perceptron")


def test_model_without_parameters():
    with refusal("ReLU has no parameters, so there is nothing to nowcast"):
        ninokit.encode(nn.ReLU())


def test_lazily_initialised_parameters():
    model = nn.Sequential(nn.LazyLinear(3))
    with refusal("0.weight has no shape yet; run the model once on a batch before encoding it"):
        ninokit.encode(model)
    model(torch.zeros(2, 5))
    assert ninokit.encode(model).parameters["0.weight"] == (3, 5)


def test_wrappers_are_seen_through():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    compiled = torch.compile(model)
    assert compiled is not model
    for wrapped in (compiled, nn.DataParallel(model), nn.DataParallel(compiled), torch.compile(nn.DataParallel(model))):
        assert unwrap(wrapped) is model
        assert ninokit.encode(wrapped) == ninokit.encode(model)
    assert unwrap(model) is model


def test_an_architecture_that_breaks_is_passed_over(monkeypatch, caplog):
    def breaks(model, example_inputs=None):
        raise KeyError("hidden_size")

    broken = Architecture("broken", "fails", lambda model: True, breaks)
    known = {"broken": broken, **ninokit.architectures()}
    monkeypatch.setattr("ninokit.encoding.architectures", lambda: known)
    assert ninokit.encode(nn.Linear(3, 2)).num_edges == 8
    assert caplog.messages == ["the architecture broken failed on Linear: broken (KeyError: 'hidden_size')"]
