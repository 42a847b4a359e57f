"""From a plain convolutional network to its neural graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules import pooling
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ninokit.errors import UnsupportedModelError
from ninokit.graph import EdgeKind, NeuralGraph
from ninokit.graph.chain_builder import NORMS, ChainBuilder
from ninokit.graph.chains import ChainStep, parameter_owners, read_chain

__all__ = ["encode", "examples", "matches"]

# Modules that act on each channel's positions, and keep the channels.
_POOLING: tuple[type[nn.Module], ...] = (
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
    pooling._LPPoolNd,
    nn.Upsample,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
)
_POOLING_FUNCTIONS = frozenset(
    f"{kind}{dim}d" for kind in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool") for dim in (1, 2, 3)
)


def matches(model: nn.Module) -> bool:
    """Whether all parameters are those of convolutions, linear layers and norms.

    Args:
        model: any module.

    Returns:
        True if there is a convolution, and no other parameter than convolutions', linear layers' and norms'.
    """
    owners = parameter_owners(model)
    return any(isinstance(m, _ConvNd) for m in owners) and all(
        isinstance(m, (_ConvNd, nn.Linear, *NORMS)) for m in owners
    )


def encode(model: nn.Module, example_inputs: Any = None) -> NeuralGraph:
    """The neural graph of convolutions in a chain.

    A kernel's positions are the taps of an edge. A linear layer after flattening reads the channels, and each
    position of the feature map is a tap.

    Args:
        model: a plain convolutional network.
        example_inputs: not needed.

    Returns:
        A graph with a group a layer.

    Raises:
        UnsupportedModelError: with the reason, if the model is no such chain.
    """
    chain = ChainBuilder(model)
    for step in read_chain(model):
        _add(chain, step)
    return chain.build()


def examples() -> list[tuple[nn.Module, Any]]:
    """Small convolutional networks.

    Returns:
        Models, each with inputs.
    """
    plain = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3))
    pooled = nn.Sequential(plain, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    grouped = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 12, 1, groups=4))
    flattened = nn.Sequential(grouped, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 4, 3))
    return [(model, torch.randn(2, 3, 6, 6)) for model in (pooled, flattened)]


def _add(chain: ChainBuilder, step: ChainStep) -> None:
    if isinstance(step.module, _ConvNd):
        _convolution(chain, step.name, step.module)
    elif _averages_positions(step, chain.spatial_dims):
        chain.spatial_dims = chain.spatial_dims if _keeps_dims(step) else 0
    elif not (chain.add(step) or _pools(step, chain.spatial_dims)):
        raise UnsupportedModelError(f"{step.name!r} is no step of a plain convolutional chain")


def _convolution(chain: ChainBuilder, name: str, layer: _ConvNd) -> None:
    sources = chain.sources(layer.in_channels)
    if sources.size != layer.in_channels:
        raise UnsupportedModelError(f"{name} reads {layer.in_channels} channels, the layer before has {sources.size}")
    dims = layer.weight.ndim - 2
    if chain.spatial_dims not in {None, dims}:
        raise UnsupportedModelError(f"{name} reads a map of {dims} dimensions, the layer before has none such")
    taps = " tap" * dims
    transposed = isinstance(layer, _ConvTransposeNd)
    axes = f"(group src) dst{taps}" if transposed else f"(group dst) src{taps}"
    chain.layer(name, layer, EdgeKind.CONVOLUTION, sources, layer.out_channels, axes, layer.groups)
    chain.spatial_dims = dims


def _pools(step: ChainStep, spatial_dims: int | None) -> bool:
    """Whether a step pools, pads or resizes the positions of each channel, and no other dimension."""
    if isinstance(step.module, nn.Upsample):
        return True
    name = step.name if step.module is None else type(step.module).__name__
    known = step.name in _POOLING_FUNCTIONS if step.module is None else isinstance(step.module, _POOLING)
    return known and (spatial_dims is None or f"{spatial_dims}d" in name)


def _averages_positions(step: ChainStep, spatial_dims: int | None) -> bool:
    """Whether a step reduces every position of a feature map, as ``x.mean((2, 3))``."""
    if step.module is not None or step.name not in {"mean", "amax"} or not spatial_dims:
        return False
    dims = step.args[0] if step.args else dict(step.kwargs).get("dim")
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, (tuple, list)) or not all(isinstance(dim, int) for dim in dims):
        return False
    return {dim % (2 + spatial_dims) for dim in dims} == set(range(2, 2 + spatial_dims))


def _keeps_dims(step: ChainStep) -> bool:
    return bool(step.args[1] if len(step.args) > 1 else dict(step.kwargs).get("keepdim", False))
