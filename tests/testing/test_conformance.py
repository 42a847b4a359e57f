"""The checks of a whole architecture, and of the numbers on its edges."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hand_made import ConvNet, Transformer, conv_graph, mlp, mlp_graph, transformer_graph, transposed
from torch import nn

import ninokit
from ninokit import Architecture
from ninokit.errors import ArchitectureError, DependencyError, EncodingError
from ninokit.graph import NeuralGraph
from ninokit.testing import check_round_trip, conformance_checks

ARCHITECTURES = {name: family for name, family in ninokit.architectures().items() if family.examples}


def refusal(message: str) -> pytest.RaisesExc:
    return pytest.raises(EncodingError, match=f"^{re.escape(message)}")


def family(**changes: object) -> Architecture:
    """Multilayer perceptrons, encoded by hand."""

    def examples() -> list[tuple[nn.Module, torch.Tensor]]:
        return [(mlp(3, 4, 2), torch.randn(2, 3)), (mlp(5, 6, 6, 2), torch.randn(2, 5))]

    right = Architecture("hand", "by hand", lambda model: True, lambda model, inputs: mlp_graph(model), examples)
    return replace(right, **changes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_that_are_registered(name):
    reports = conformance_checks(name)
    assert len(reports) == len(list(ARCHITECTURES[name].examples()))
    assert all(report.silent == () for report in reports)


def test_built_in_architectures_have_examples():
    assert {"mlp", "cnn"} <= ARCHITECTURES.keys()


def test_right_family():
    assert [report.groups for report in conformance_checks(family())] == [3, 4]
    assert len(conformance_checks(family(), [(mlp(3, 4, 2), torch.randn(2, 3))])) == 1
    with pytest.raises(EncodingError, match=r"^example 0 of 'hand': Sequential: the permutations move 24 of 26 "):
        conformance_checks(family(), min_share=0.95)


def test_family_that_has_no_examples():
    message = "'hand' has no examples; pass some, or give its Architecture the field examples"
    with refusal(message):
        conformance_checks(family(examples=None))
    with refusal(message):
        conformance_checks(family(), [])


def test_unknown_family():
    message = f"architecture: there is none named 'perceptron'; registered are {sorted(ninokit.architectures())}"
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$"):
        conformance_checks("perceptron")


def test_family_that_does_not_match():
    with refusal("example 0 of 'hand': Sequential does not match"):
        conformance_checks(family(matches=lambda model: False))


def test_wrong_graph():
    def encode(model: nn.Module, inputs: object) -> NeuralGraph:
        return mlp_graph(model) if len(model) == 3 else transposed(mlp_graph(model), "2.weight")

    with refusal("example 1 of 'hand': Sequential: neurons that the graph calls interchangeable are not") as caught:
        conformance_checks(family(encode=encode))
    assert caught.value.culprits == ("2.weight",)


def test_encoding_that_changes_the_model():
    def trains(model: nn.Module, inputs: object) -> NeuralGraph:
        model.eval()
        return mlp_graph(model)

    def scales(model: nn.Module, inputs: object) -> NeuralGraph:
        model[0].bias.data.mul_(2)
        return mlp_graph(model)

    def adds(model: nn.Module, inputs: object) -> NeuralGraph:
        model.register_buffer("new", torch.zeros(1))
        return mlp_graph(model)

    with refusal("example 0 of 'hand': encoding changes Sequential: its mode or its tensors"):
        conformance_checks(family(encode=trains))
    with refusal("example 0 of 'hand': encoding changes Sequential: 0.bias"):
        conformance_checks(family(encode=scales))
    with refusal("example 0 of 'hand': encoding changes Sequential: its mode or its tensors"):
        conformance_checks(family(encode=adds))


def test_encoding_that_varies():
    graphs = iter([mlp_graph, lambda model: ninokit.encode(model, architecture="mlp")])
    with refusal("example 0 of 'hand': Sequential encoded twice has two graphs"):
        conformance_checks(family(encode=lambda model, inputs: next(graphs)(model)))


def test_round_trip_is_a_part(monkeypatch):
    checked = []
    monkeypatch.setattr("ninokit.testing.conformance.check_round_trip", checked.append)
    conformance_checks(family())
    assert [graph.num_parameters for graph in checked] == [26, 92]


def test_dgl_view(monkeypatch, dgl_installed):
    import dgl

    wrong = dgl.graph(([0], [1]), num_nodes=3)
    monkeypatch.setattr(NeuralGraph, "to_dgl", lambda *_, **__: wrong)
    message = "example 0 of 'hand': its DGL view has 3 nodes and 1 edges, expected 11 and 37"
    with refusal(message):
        conformance_checks(family())


def test_without_dgl(monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise DependencyError("dgl is not installed")

    monkeypatch.setattr(NeuralGraph, "to_dgl", missing)
    assert len(conformance_checks(family())) == 2


@pytest.mark.parametrize(
    "graph",
    [
        lambda: mlp_graph(mlp(5, 8, 3)),
        lambda: conv_graph(ConvNet()),
        lambda: transformer_graph(Transformer()),
        lambda: transformer_graph(Transformer(rotary=True), rigid=4),
        lambda: ninokit.encode(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4 * 11, 2))),
    ],
)
def test_round_trips(graph):
    for seed in range(3):
        check_round_trip(graph(), seed=seed)


def test_numbers_that_come_back_elsewhere(monkeypatch):
    def turned(graph: NeuralGraph, values: torch.Tensor):
        yield "0.weight", values[:12, 0].view(3, 4).flip(0)

    monkeypatch.setattr("ninokit.testing.round_trips.edges_to_parameters", turned)
    with refusal("0.weight: its numbers come back from the edges in other places") as caught:
        check_round_trip(mlp_graph(mlp(4, 3, 2)))
    assert caught.value.culprits == ("0.weight",)


def test_numbers_that_do_not_move_along(monkeypatch):
    monkeypatch.setattr("ninokit.testing.round_trips.permute_parameter", lambda blocks, tensor, orders: tensor)
    with refusal("0.weight: its numbers do not move with the neurons of its edges"):
        check_round_trip(mlp_graph(mlp(4, 3, 2)))


def test_edges_that_do_not_move_along(monkeypatch):
    graph = transformer_graph(Transformer())
    symmetry = ninokit.graph.symmetry.find_symmetry(graph)

    class Torn:
        def draw(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
            return {**symmetry.draw(generator), "heads": torch.arange(3)}

    monkeypatch.setattr("ninokit.testing.round_trips.find_symmetry", lambda graph: Torn())
    with refusal("attention_head edges heads → query: moved neurons are joined by edges that it does not have"):
        check_round_trip(graph)
