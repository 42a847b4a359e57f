"""Networks that more than one task trains."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


def mlp(*widths: int) -> nn.Sequential:
    """A ReLU multilayer perceptron.

    Args:
        widths: neurons of every layer, from the inputs to the classes.

    Returns:
        A network from (B, first width) to (B, last width).
    """
    *hidden, last = pairwise(widths)
    layers = [layer for inputs, outputs in hidden for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(*last))


def vision_cnn(channels: int, widths: tuple[int, int, int] = (16, 32, 32)) -> nn.Sequential:
    """The small convolutional network of the published vision tasks (Knyazev et al. 2025, FM-16 and C10-16).

    Args:
        channels: of an image: 1 for grey, 3 for colour.
        widths: channels of the three layers.

    Returns:
        A network from (B, channels, height, width) to (B, 10), with channels last in memory, which is faster.
    """
    first, second, last = widths
    network = nn.Sequential(
        nn.Conv2d(channels, first, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(second, last, 3, padding="same"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, 10),
    )
    return network.to(memory_format=torch.channels_last)


def strided_cnn(channels: int) -> nn.Sequential:
    """A convolutional network of 4k parameters whose maps shrink twice, so that a step takes a few milliseconds.

    Args:
        channels: of an image: 1 for grey, 3 for colour.

    Returns:
        A network from (B, channels, height, width) to (B, 10).
    """
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
