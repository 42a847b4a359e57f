"""The handwritten digits that scikit-learn ships, 1797 images of 8 by 8 pixels, with networks of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.convolutional import (
    Layer,
    batchnorm_layer,
    convolutional,
    depthwise_layer,
    plain_layer,
    residual_layer,
)
from ninokit.benchmarks.tasks.networks import mlp
from ninokit.benchmarks.tasks.transformers import vision_transformer

_SPLIT_SEED = 0
_BRIGHTEST = 16.0
_IMAGE = (1, 8, 8)
_VIT = "digits_vit"


def load_digits(root: Path | None = None) -> ClassificationData:
    """The digits, split once and for all into 80 % for training and 20 % for testing.

    Args:
        root: not used; the data comes with scikit-learn.

    Returns:
        1437 training and 360 test images of shape (64,), pixels from 0 to 1.

    Raises:
        DependencyError: scikit-learn is missing.
    """
    images, labels = require("sklearn.datasets", "a task with digits").load_digits(return_X_y=True)
    inputs, classes = torch.from_numpy(images).float() / _BRIGHTEST, torch.from_numpy(labels).long()
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    return ClassificationData(
        train_inputs=inputs[train],
        train_labels=classes[train],
        test_inputs=inputs[test],
        test_labels=classes[test],
    )


def load_digit_images(root: Path | None = None) -> ClassificationData:
    """The digits as images of one channel, for convolutions.

    Args:
        root: not used; the data comes with scikit-learn.

    Returns:
        As `load_digits`, with images of shape (1, 8, 8).

    Raises:
        DependencyError: scikit-learn is missing.
    """
    flat = load_digits(root)
    return replace(
        flat,
        train_inputs=flat.train_inputs.unflatten(1, _IMAGE),
        test_inputs=flat.test_inputs.unflatten(1, _IMAGE),
    )


DIGITS_MLP = Task(
    name="digits_mlp",
    description="scikit-learn's digits, 2-layer MLP of 2k parameters; needs no files",
    build_model=lambda: mlp(64, 32, 10),
    load_data=load_digits,
    batch_size=256,
    lr=0.008,
    total_steps=600,
    eval_every=10,
    target=0.98,
    period=50,
)


def _small(name: str, description: str, build_model: Callable[[], nn.Module], *, lr: float, target: float) -> Task:
    """A task to learn from that sees the digits as images."""
    return Task(
        name=name,
        description=f"scikit-learn's digits, {description}; needs no files",
        build_model=build_model,
        load_data=load_digit_images,
        batch_size=128,
        lr=lr,
        total_steps=1_000,
        eval_every=10,
        target=target,
        period=100,
        example_inputs=lambda: torch.zeros(2, *_IMAGE),
    )


def _network(layer: Layer, *widths: int) -> Callable[[], nn.Module]:
    return partial(convolutional, layer, 2, widths, first_stride=1)


DIGITS_TASKS = (
    _small("digits_cnn", "3-layer CNN of 6k parameters", _network(plain_layer, 12, 16, 24), lr=0.01, target=0.97),
    _small(
        "digits_batchnorm_cnn",
        "3-layer CNN with BatchNorm of 6k parameters",
        _network(batchnorm_layer, 12, 16, 24),
        lr=0.01,
        target=0.98,
    ),
    _small(
        "digits_depthwise_cnn",
        "3-layer depthwise separable CNN of 2k parameters",
        _network(depthwise_layer, 16, 24, 32),
        lr=0.01,
        target=0.98,
    ),
    _small(
        "digits_resnet",
        "residual CNN with BatchNorm of 9k parameters",
        _network(residual_layer, 12, 12, 16, 16),
        lr=0.01,
        target=0.98,
    ),
    _small(
        _VIT,
        "2-layer vision transformer of 15k parameters",
        partial(vision_transformer, _VIT, side=8, patch=2, width=24, layers=2, heads=3),
        lr=0.004,
        target=0.96,
    ),
)
