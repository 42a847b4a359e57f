"""From a SIREN to its neural graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ninokit.errors import UnsupportedModelError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph, Neurons
from ninokit_siren.network import Siren

__all__ = ["encode", "examples", "matches"]


def matches(model: nn.Module) -> bool:
    """Whether a model is a SIREN; a subclass may compute something else.

    Args:
        model: any module.

    Returns:
        True for `Siren` alone.
    """
    return type(model) is Siren


def encode(model: nn.Module, example_inputs: Any = None) -> NeuralGraph:
    """The neural graph of a SIREN.

    Args:
        model: the network.
        example_inputs: not needed.

    Returns:
        A graph with a group a layer.

    Raises:
        UnsupportedModelError: if the model is no SIREN.
    """
    if not isinstance(model, Siren):
        raise UnsupportedModelError(f"expected a Siren, got a {type(model).__name__}")
    builder = GraphBuilder(model)
    coordinates = current = builder.neurons("coordinates", model.in_features)
    for number in range(len(model.layers)):
        skipped = coordinates if number == model.skip else None
        current = _add_layer(builder, number, model.modulation.shape[1], current, skipped)
    values = builder.neurons("values", model.readout.out_features)
    builder.edges(EdgeKind.LINEAR, current, values, parameter="readout.weight", axes="dst src")
    builder.vector(EdgeKind.BIAS, values, parameter="readout.bias")
    return builder.build()


def _add_layer(
    builder: GraphBuilder, number: int, hidden: int, before: Neurons, coordinates: Neurons | None
) -> Neurons:
    """A sine layer, which may read the coordinates beside the layer before: two slices of one weight."""
    neurons = builder.neurons(f"layers.{number}", hidden)
    weight = f"layers.{number}.weight"
    columns = {1: (0, before.size)}
    builder.edges(EdgeKind.LINEAR, before, neurons, parameter=weight, axes="dst src", window=columns)
    if coordinates is not None:
        columns = {1: (before.size, before.size + coordinates.size)}
        builder.edges(EdgeKind.LINEAR, coordinates, neurons, parameter=weight, axes="dst src", window=columns)
    builder.vector(EdgeKind.BIAS, neurons, parameter=f"layers.{number}.bias")
    # The layer's row of the modulation; its axis of rows has one number an edge.
    rows = {0: (number, number + 1)}
    builder.vector(EdgeKind.BIAS, neurons, parameter="modulation", axes="tap dst", window=rows)
    return neurons


def examples() -> list[tuple[nn.Module, Any]]:
    """Small SIRENs.

    Returns:
        Models, each with inputs.
    """
    # A small omega: the checks put random numbers in place of the parameters, and compare in double precision.
    return [
        (Siren(2, 8, depth=4, out_features=3, omega=2.0), torch.rand(5, 2)),
        (Siren(1, 6, depth=2, out_features=1, skip=None, omega=2.0), torch.rand(5, 1)),
        (Siren(3, 5, depth=3, out_features=2, skip=1, omega=2.0), torch.rand(4, 3)),
    ]
