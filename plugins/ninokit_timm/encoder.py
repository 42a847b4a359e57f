"""From a timm network to its neural graph: the tracer's, on inputs that the network's configuration tells."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ninokit._optional import require
from ninokit.graph import NeuralGraph, trace
from ninokit_timm.inputs import example_batch

__all__ = ["encode", "examples", "matches"]


def matches(model: nn.Module) -> bool:
    """Whether the model is timm's, without an import of timm.

    Args:
        model: any module.

    Returns:
        True for an instance of a class of timm, or of a subclass of one, and for a network with timm's configuration.
    """
    ancestors = type(model).__mro__
    return hasattr(model, "pretrained_cfg") or any(c.__module__.partition(".")[0] == "timm" for c in ancestors)


def encode(model: nn.Module, example_inputs: Any = None) -> NeuralGraph:
    """The neural graph of a timm network.

    Args:
        model: the network.
        example_inputs: what it is called with; left out, images of the size that it is made for.

    Returns:
        The graph that the tracer finds.

    Raises:
        UnsupportedModelError: with the reason, if the size is not known or the tracer declines.
    """
    return trace(model, example_batch(model) if example_inputs is None else example_inputs)


def examples() -> list[tuple[nn.Module, Any]]:
    """The test networks of timm, on images smaller than their configuration's.

    Returns:
        Models, each with inputs.

    Raises:
        DependencyError: if timm is missing.
    """
    timm = require("timm", "the examples of the architecture 'timm'", "timm")
    images = torch.randn(2, 3, 32, 32)
    names = ("test_resnet", "test_efficientnet", "test_convnext")
    vit = timm.create_model("test_vit", num_classes=4, img_size=32, patch_size=8)
    return [*((timm.create_model(name, num_classes=4), images) for name in names), (vit, images)]
