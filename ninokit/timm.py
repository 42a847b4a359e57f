"""timm's models and optimizers with nowcasting, each in one line.

import ninokit.timm
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ninokit._optional import require
from ninokit.errors import ConfigError
from ninokit.nowcasters.base import Nowcaster
from ninokit.training import Nowcasting, attach

__all__ = ["Training", "create_model", "create_optimizer_v2"]

# What goes to `attach` by name, beside the settings that have a place of their own below.
_ATTACH = frozenset(inspect.signature(attach).parameters) - {"optimizer", "model", "nowcaster"}


class Training(NamedTuple):
    """What a training loop needs.

    Attributes:
        model: timm's network.
        optimizer: timm's optimizer, with nowcasting attached.
        nowcasting: the handle, with the events so far.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    nowcasting: Nowcasting


def create_model(
    name: str,
    *,
    opt: str = "adamw",
    lr: float | None = None,
    weight_decay: float = 0.0,
    optimizer_settings: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    nowcaster: Nowcaster | str | Path = "linefit",
    total_steps: int,
    period: int = 1000,
    **settings: Any,
) -> Training:
    """A timm model with its optimizer and nowcasting.

    Args:
        name: of the model, as `timm.create_model` takes it.
        opt: name of the optimizer, as `timm.optim.create_optimizer_v2` takes it.
        lr: learning rate; left out, the optimizer's own.
        weight_decay: at least 0; timm spares biases and norms.
        optimizer_settings: further arguments of `timm.optim.create_optimizer_v2`, such as ``layer_decay``.
        device: where the model is put before the optimizer is made; left out, where timm puts it.
        nowcaster: as `ninokit.attach` takes it.
        total_steps: optimizer steps that the training will have.
        period: steps between nowcasts.
        settings: further arguments of `ninokit.attach`, such as ``recalibrate_batchnorm``; all others go to
            `timm.create_model`, such as ``num_classes`` or ``pretrained``.

    Returns:
        Model, optimizer and nowcasting.

    Raises:
        DependencyError: if timm is missing.
        ConfigError, ArchitectureError, CheckpointError: as `ninokit.attach`.

    Example:
        >>> import ninokit.timm
        >>> model, optimizer, nowcasting = ninokit.timm.create_model(
        ...     "test_resnet", num_classes=10, lr=1e-3, total_steps=10_000, recalibrate_batchnorm=20
        ... )
        >>> type(model).__name__, type(optimizer).__name__, nowcasting.steps
        ('ResNet', 'AdamW', 0)
    """
    attached, made = _split(settings)
    model: nn.Module = require("timm", "ninokit.timm", "timm").create_model(name, **made)
    if device is not None:
        model = model.to(device)
    optimizer = _optimizers().create_optimizer_v2(
        model, opt=opt, lr=lr, weight_decay=weight_decay, **(optimizer_settings or {})
    )
    nowcasting = attach(optimizer, model, nowcaster, total_steps=total_steps, period=period, **attached)
    return Training(model, optimizer, nowcasting)


def create_optimizer_v2(
    model_or_params: Any,
    *arguments: Any,
    nowcaster: Nowcaster | str | Path = "linefit",
    total_steps: int,
    period: int = 1000,
    model: nn.Module | None = None,
    **settings: Any,
) -> torch.optim.Optimizer:
    """The function of this name in timm, and nowcasting attached to what it returns.

    Args:
        model_or_params: the network, or its parameters or parameter groups; then `model` is needed too.
        arguments: further ones of `timm.optim.create_optimizer_v2`, in its order.
        nowcaster: as `ninokit.attach` takes it.
        total_steps: optimizer steps that the training will have.
        period: steps between nowcasts.
        model: the network, where `model_or_params` is not.
        settings: further arguments of `ninokit.attach`, such as ``recalibrate_batchnorm``; all others go to
            `timm.optim.create_optimizer_v2`, such as ``lr``.

    Returns:
        timm's optimizer.

    Raises:
        DependencyError: if timm is missing.
        ConfigError: if the network is not given; or as `ninokit.attach`.
        ArchitectureError, CheckpointError: as `ninokit.attach`.

    Example:
        >>> import timm, ninokit.timm
        >>> model = timm.create_model("test_vit", num_classes=10)
        >>> optimizer = ninokit.timm.create_optimizer_v2(
        ...     model, "lookahead_adamw", lr=1e-3, layer_decay=0.7, total_steps=10_000
        ... )
        >>> type(optimizer).__name__, len(optimizer.param_groups) > 2
        ('Lookahead', True)
    """
    network = model_or_params if model is None else model
    if not isinstance(network, nn.Module):
        raise ConfigError(
            "model: expected the network beside its parameters, as nowcasting looks at all of it; pass model=…"
        )
    attached, made = _split(settings)
    optimizer: torch.optim.Optimizer = _optimizers().create_optimizer_v2(model_or_params, *arguments, **made)
    attach(optimizer, network, nowcaster, total_steps=total_steps, period=period, **attached)
    return optimizer


def _split(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is for `attach`, and what for timm."""
    ours = {name: value for name, value in settings.items() if name in _ATTACH}
    return ours, {name: value for name, value in settings.items() if name not in _ATTACH}


def _optimizers() -> Any:
    return require("timm.optim", "ninokit.timm", "timm")
