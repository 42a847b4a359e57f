"""MNIST-1D (Greydanus 2020), 4000 + 1000 signals of 40 points made on the spot, with networks of many kinds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.convolutional import (
    Layer,
    batchnorm_layer,
    convolutional,
    depthwise_layer,
    residual_layer,
)
from ninokit.benchmarks.tasks.networks import mlp


def load_mnist1d(root: Path | None = None) -> ClassificationData:
    """The published MNIST-1D signals, generated from their published seed.

    Args:
        root: not used; the data needs no files.

    Returns:
        4000 training and 1000 test signals of shape (40,), normalised over the whole data set.

    Raises:
        DependencyError: the package ``mnist1d`` is missing.
    """
    source = require("mnist1d.data", "the MNIST-1D tasks")
    with _global_randomness_kept():
        # Not get_dataset(), which downloads.
        signals = source.make_dataset(source.get_dataset_args())
    return ClassificationData(
        train_inputs=torch.from_numpy(signals["x"]).float(),
        train_labels=torch.from_numpy(signals["y"]).long(),
        test_inputs=torch.from_numpy(signals["x_test"]).float(),
        test_labels=torch.from_numpy(signals["y_test"]).long(),
    )


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """The generator seeds Python's and NumPy's global random states; the caller's go on as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def load_mnist1d_channels(root: Path | None = None) -> ClassificationData:
    """MNIST-1D as one-channel signals, for convolutions.

    Args:
        root: not used; the data needs no files.

    Returns:
        As `load_mnist1d`, with signals of shape (1, 40).

    Raises:
        DependencyError: the package ``mnist1d`` is missing.
    """
    flat = load_mnist1d(root)
    return replace(flat, train_inputs=flat.train_inputs.unsqueeze(1), test_inputs=flat.test_inputs.unsqueeze(1))


def signal_cnn() -> nn.Sequential:
    """The convolutional network of the MNIST-1D paper, with global average pooling.

    Returns:
        The network from (B, 1, 40) to (B, 10).
    """
    return nn.Sequential(
        nn.Conv1d(1, 25, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(25, 10),
    )


MNIST1D_MLP = Task(
    name="mnist1d_mlp",
    description="MNIST-1D, 3-layer MLP of 15k parameters; needs no files",
    build_model=lambda: mlp(40, 100, 100, 10),
    load_data=load_mnist1d,
    batch_size=128,
    lr=0.008,
    total_steps=1_500,
    eval_every=10,
    target=0.65,
    period=100,
)

MNIST1D_CNN = Task(
    name="mnist1d_cnn",
    description="MNIST-1D, 3-layer CNN of 4k parameters; needs no files",
    build_model=signal_cnn,
    load_data=load_mnist1d_channels,
    batch_size=128,
    lr=0.02,
    total_steps=1_500,
    eval_every=10,
    target=0.93,
    period=100,
)


def _mlp_task(name: str, description: str, *widths: int, target: float) -> Task:
    return replace(
        MNIST1D_MLP,
        name=name,
        description=f"MNIST-1D, {description}; needs no files",
        build_model=lambda: mlp(*widths),
        target=target,
    )


def _cnn_task(name: str, description: str, layer: Layer, *widths: int, lr: float, target: float) -> Task:
    return replace(
        MNIST1D_CNN,
        name=name,
        description=f"MNIST-1D, {description}; needs no files",
        build_model=partial(convolutional, layer, 1, widths),
        lr=lr,
        target=target,
        example_inputs=lambda: torch.zeros(2, 1, 40),
    )


MNIST1D_TASKS = (
    _mlp_task("mnist1d_mlp_shallow", "2-layer MLP of 5k parameters", 40, 96, 10, target=0.6),
    _mlp_task("mnist1d_mlp_deep", "4-layer MLP of 7k parameters", 40, 48, 48, 48, 10, target=0.6),
    _cnn_task(
        "mnist1d_batchnorm_cnn",
        "3-layer CNN with BatchNorm of 4k parameters",
        batchnorm_layer,
        *(16, 24, 32),
        lr=0.02,
        target=0.93,
    ),
    _cnn_task(
        "mnist1d_depthwise_cnn",
        "3-layer depthwise separable CNN of 3k parameters",
        depthwise_layer,
        *(24, 32, 48),
        lr=0.02,
        target=0.74,
    ),
    _cnn_task(
        "mnist1d_resnet",
        "residual CNN with BatchNorm of 7k parameters",
        residual_layer,
        *(16, 16, 24, 24),
        lr=0.02,
        target=0.96,
    ),
)
