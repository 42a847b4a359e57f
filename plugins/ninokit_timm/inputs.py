"""The size of a timm network's inputs, as it has been made rather than as its published weights were.

`pretrained_cfg` has the input size of the published weights. A network made with ``img_size`` or ``in_chans``, resized
with ``set_input_size``, or given another stem, has another; timm keeps it in attributes, which ones depends on the
family and on timm's version.

Shapes: B images, C channels, H by W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ninokit.errors import UnsupportedModelError

__all__ = ["example_batch", "input_size"]

_BATCH = 2
_DEFAULT = (3, 224, 224)  # timm's


def example_batch(model: nn.Module) -> Tensor:
    """Images without numbers that the network can be traced on.

    Args:
        model: a timm network.

    Returns:
        Of shape (2, C, H, W), in the dtype of the parameters, on the meta device.

    Raises:
        UnsupportedModelError: if nothing tells the size.
    """
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.empty(_BATCH, *input_size(model), dtype=parameter.dtype, device="meta")


def input_size(model: nn.Module) -> tuple[int, int, int]:
    """The size of the images that a timm network is made for; of one that takes any, its configuration's.

    Args:
        model: a timm network.

    Returns:
        C, H and W.

    Raises:
        UnsupportedModelError: if nothing tells the size.

    Example:
        >>> import timm
        >>> input_size(timm.create_model("test_vit", img_size=64, in_chans=1))
        (1, 64, 64)
    """
    config, traits = _mapping(model, "pretrained_cfg") or _mapping(model, "default_cfg"), _mapping(model, "_traits")
    if not config and not type(model).__module__.startswith("timm.models."):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no pretrained_cfg with its input size; pass example_inputs"
        )
    published = tuple(config.get("input_size") or _DEFAULT)
    return _channels(model, {**config, **traits}, published[0]), *(_pixels(model, traits) or published[-2:])


def _pixels(model: nn.Module, traits: Mapping[str, Any]) -> tuple[int, int] | None:
    """H and W where the network tells them."""
    embedding = getattr(model, "patch_embed", None)
    told = (getattr(embedding, "img_size", None), traits.get("img_size"), getattr(model, "img_size", None))
    return next((_pair(size) for size in told if size is not None), None)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _channels(model: nn.Module, config: Mapping[str, Any], published: int) -> int:
    """The channels that the stem reads, unless pixels are folded into channels before it."""
    declared = int(getattr(model, "in_chans", published))
    read = _stem_channels(model, config)
    if read is None or _folds_pixels(read, declared):
        return declared
    return read


def _stem_channels(model: nn.Module, config: Mapping[str, Any]) -> int | None:
    """The input channels of the first convolution that the configuration names; without any name, of the first."""
    names = config.get("first_conv", [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)])
    for name in [names] if isinstance(names, str) else names or ():
        stem = dict(model.named_modules()).get(name)
        if isinstance(stem, nn.Conv2d):
            return stem.in_channels
    return None


def _folds_pixels(read: int, declared: int) -> bool:
    """Whether squares of n by n pixels make the channels that a stem reads."""
    return read % declared == 0 and math.isqrt(read // declared) ** 2 == read // declared


def _mapping(model: nn.Module, attribute: str) -> Mapping[str, Any]:
    value = getattr(model, attribute, None)
    return value if isinstance(value, Mapping) else {}
