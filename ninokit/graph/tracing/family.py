"""The tracer as an architecture family that takes any network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ninokit.encoding import Architecture
from ninokit.errors import UnsupportedModelError
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.tracing.trace import trace

__all__ = ["TRACED"]


def _encode(model: nn.Module, example_inputs: Any) -> NeuralGraph:
    if example_inputs is None:
        raise UnsupportedModelError("needs example inputs to run the network; pass example_inputs=…")
    return trace(model, example_inputs)


def _examples() -> list[tuple[nn.Module, Any]]:
    convolutional = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8))
    attention = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    return [
        (nn.Sequential(convolutional, nn.Flatten(), nn.Linear(8 * 16, 3)), torch.randn(2, 3, 8, 8)),
        (nn.Sequential(attention, nn.Linear(8, 3)), torch.randn(2, 5, 8)),
    ]


TRACED = Architecture("traced", "any network that runs on example inputs", lambda _: True, _encode, _examples)
