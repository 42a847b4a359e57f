"""Small convolutional networks, in one and two dimensions, of one layer kind each.

Shapes: B examples in a batch; maps are of (B, channels, length) or (B, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["Layer", "Residual", "batchnorm_layer", "convolutional", "depthwise_layer", "plain_layer", "residual_layer"]

# (dimensions, channels in, channels out, stride) → the modules of a layer.
Layer = Callable[[int, int, int, int], Sequence[nn.Module]]

_CLASSES = 10
_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d}
_BATCHNORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}


def convolutional(layer: Layer, dimensions: int, widths: Sequence[int], *, first_stride: int = 2) -> nn.Sequential:
    """Layers of one kind, then global average pooling and a linear layer to ten classes.

    Args:
        layer: the kind, such as `plain_layer`.
        dimensions: 1 for signals, 2 for images; of one channel.
        widths: channels of every layer. Maps halve where the width changes.
        first_stride: of the first layer.

    Returns:
        The network from (B, 1, ...) to (B, 10).

    Example:
        >>> len(convolutional(plain_layer, 1, (4, 8)))
        7
    """
    strides = [first_stride, *(1 if before == after else 2 for before, after in pairwise(widths))]
    steps = zip(pairwise([1, *widths]), strides, strict=True)
    layers = [module for (inputs, outputs), stride in steps for module in layer(dimensions, inputs, outputs, stride)]
    return nn.Sequential(*layers, _POOL[dimensions](1), nn.Flatten(), nn.Linear(widths[-1], _CLASSES))


def plain_layer(dimensions: int, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A convolution of width 3 with bias, and ReLU."""
    return [_CONVOLUTION[dimensions](inputs, outputs, 3, stride=stride, padding=1), nn.ReLU()]


def batchnorm_layer(dimensions: int, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A convolution of width 3, BatchNorm and ReLU."""
    return [*_normed(dimensions, inputs, outputs, stride), nn.ReLU()]


def depthwise_layer(dimensions: int, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A convolution of width 3 of each channel alone, one of width 1 over the channels, BatchNorm and ReLU."""
    convolution = _CONVOLUTION[dimensions]
    return [
        convolution(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        convolution(inputs, outputs, 1, bias=False),
        _BATCHNORM[dimensions](outputs),
        nn.ReLU(),
    ]


def residual_layer(dimensions: int, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A block of ResNet (He et al. 2016) where the width stays, a layer with BatchNorm where it changes."""
    if inputs != outputs:
        return batchnorm_layer(dimensions, inputs, outputs, stride)
    first = batchnorm_layer(dimensions, inputs, outputs, stride)
    return [Residual(*first, *_normed(dimensions, outputs, outputs, 1)), nn.ReLU()]


class Residual(nn.Sequential):
    """Modules in a row, whose input is added to their output."""

    def forward(self, inputs: Tensor) -> Tensor:
        """From maps to maps of the same shape."""
        outputs: Tensor = super().forward(inputs)
        return inputs + outputs


def _normed(dimensions: int, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = _CONVOLUTION[dimensions](inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, _BATCHNORM[dimensions](outputs)]
