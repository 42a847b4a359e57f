"""The graph of a SIREN: by hand, proven, and where the built-in ways stop."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

import ninokit
from ninokit.errors import ArchitectureError, EncodingError, UnsupportedModelError
from ninokit.graph import trace
from ninokit.graph.tracing.rules import RULES
from ninokit.testing import check_encoding, conformance_checks
from ninokit_siren.encoder import encode
from ninokit_siren.network import Siren


def small() -> tuple[Siren, torch.Tensor]:
    torch.manual_seed(0)
    return Siren(2, 8, depth=4, out_features=3, skip=2, omega=2.0), torch.rand(5, 2)


def test_examples_conform():
    assert len(conformance_checks("siren", min_share=0.95)) == 3


def test_graph_by_hand():
    model, _ = small()
    graph = ninokit.encode(model)
    layers = {f"layers.{number}": 8 for number in range(4)}
    assert {group.name: group.size for group in graph.neurons if group.size > 1} == {
        "coordinates": 2,
        **layers,
        "values": 3,
    }
    blocks = {(block.src.name, block.dst.name) for block in graph.blocks["layers.2.weight"]}
    assert blocks == {("layers.1", "layers.2"), ("coordinates", "layers.2")}
    assert [block.dst.name for block in graph.blocks["modulation"]] == list(layers)
    assert graph.num_edges == sum(parameter.numel() for parameter in model.parameters())


def test_graph_is_proven():
    model, inputs = small()
    report = check_encoding(model, inputs, encode(model), min_share=0.95)
    assert report.fixed == {"coordinates": "input", "values": "output"}
    assert report.silent == ()


class Turned(Siren):
    """Reads the coordinates before the layer, not after it."""

    def forward(self, coordinates: torch.Tensor) -> torch.Tensor:
        x = coordinates
        for number, layer in enumerate(self.layers):
            x = layer(torch.cat([coordinates, x], dim=-1) if number == self.skip else x, self.modulation[number])
        return self.readout(x)


def test_slices_in_the_wrong_order_are_found():
    torch.manual_seed(0)
    with pytest.raises(EncodingError, match=r"8 neurons of 'layers.1': moved alone, they change it by"):
        check_encoding(Turned(2, 8, omega=2.0), torch.rand(5, 2), encode(Turned(2, 8)))


def test_built_in_families_decline():
    model, _ = small()
    others = [name for name in ninokit.architectures() if name != "siren"]
    assert {"mlp", "cnn", "transformers", "traced"} <= set(others)
    for name in others:
        with pytest.raises(ArchitectureError):
            ninokit.encode(model, architecture=name)


def test_other_models_are_declined():
    assert not any(ninokit.architectures()["siren"].matches(model) for model in (nn.Linear(2, 2), Turned()))
    with pytest.raises(UnsupportedModelError, match=r"^expected a Siren, got a Linear$"):
        encode(nn.Linear(2, 2))


def test_the_tracer_reads_the_operator_by_its_rule(caplog):
    caplog.set_level(logging.INFO, logger="ninokit")
    model, inputs = small()
    check_encoding(model, inputs, trace(model, inputs), min_share=0.95)
    assert not any("has no rule" in message for message in caplog.messages)
    without = trace(model, inputs, rules=RULES)
    assert any("ninokit_siren.sine has no rule" in message for message in caplog.messages)
    with pytest.raises(EncodingError, match="the permutations move"):
        check_encoding(model, inputs, without, min_share=0.95)
