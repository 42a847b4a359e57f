"""FashionMNIST: with the published convolutional networks, and with smaller ones of many kinds to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.convolutional import (
    Layer,
    batchnorm_layer,
    convolutional,
    depthwise_layer,
    plain_layer,
    residual_layer,
)
from ninokit.benchmarks.tasks.idx import load_idx
from ninokit.benchmarks.tasks.networks import mlp, strided_cnn, vision_cnn
from ninokit.benchmarks.tasks.transformers import vision_transformer

_FM16, _FM32, _VIT = "fm16", "fm32", "fashion_vit"
_CNN_4K, _CNN_4K_SLOW = "fashion_cnn_4k", "fashion_cnn_4k_slow"
_NEEDS = "needs data_root with FashionMNIST/raw"


def load_fashion_mnist(root: Path | None, task: str) -> ClassificationData:
    """FashionMNIST from the four published files, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``FashionMNIST/raw``. Nothing is written into it.
        task: the task's name, for error messages.

    Returns:
        55,000 training, 5,000 validation and 10,000 test images of shape (1, 28, 28).

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: torchvision is missing.
    """
    return load_idx(root, task=task, name="FashionMNIST")


FM16 = Task(
    name=_FM16,
    description=f"FashionMNIST, 3-layer CNN (published FM-16); {_NEEDS}",
    build_model=lambda: vision_cnn(1),
    load_data=partial(load_fashion_mnist, task=_FM16),
    batch_size=128,
    lr=0.006,
    total_steps=10_000,
    eval_every=25,
    target=0.895,
    period=1_000,
    needs_data_root=True,
)

FM32 = Task(
    name=_FM32,
    description=f"FashionMNIST, 3-layer CNN (published FM-32); {_NEEDS}",
    build_model=lambda: vision_cnn(1, (32, 64, 64)),
    load_data=partial(load_fashion_mnist, task=_FM32),
    batch_size=128,
    lr=0.006,
    total_steps=10_000,
    eval_every=100,
    target=0.905,
    period=1_000,
    needs_data_root=True,
    held_out=True,
)


def _small(name: str, description: str, build_model: Callable[[], nn.Module], *, lr: float, target: float) -> Task:
    """A task to learn from, of few enough parameters to train many."""
    return Task(
        name=name,
        description=f"FashionMNIST, {description}; {_NEEDS}",
        build_model=build_model,
        load_data=partial(load_fashion_mnist, task=name),
        batch_size=64,
        lr=lr,
        total_steps=1_000,
        eval_every=50,
        target=target,
        period=100,
        needs_data_root=True,
        example_inputs=lambda: torch.zeros(2, 1, 28, 28),
    )


def _network(layer: Layer, *widths: int) -> Callable[[], nn.Module]:
    return partial(convolutional, layer, 2, widths)


FASHION_TASKS = (
    _small(
        "fashion_mlp",
        "3-layer MLP of 16k parameters",
        lambda: nn.Sequential(nn.Flatten(), *mlp(784, 20, 20, 10)),
        lr=0.003,
        target=0.83,
    ),
    _small("fashion_cnn", "3-layer CNN of 5k parameters", _network(plain_layer, 8, 16, 24), lr=0.015, target=0.82),
    _small(
        "fashion_batchnorm_cnn",
        "3-layer CNN with BatchNorm of 5k parameters",
        _network(batchnorm_layer, 8, 16, 24),
        lr=0.01,
        target=0.84,
    ),
    _small(
        "fashion_depthwise_cnn",
        "3-layer depthwise separable CNN of 2k parameters",
        _network(depthwise_layer, 16, 24, 32),
        lr=0.01,
        target=0.78,
    ),
    _small(
        "fashion_resnet",
        "residual CNN with BatchNorm of 7k parameters",
        _network(residual_layer, 8, 8, 16, 16),
        lr=0.01,
        target=0.83,
    ),
    _small(
        _VIT,
        "2-layer vision transformer of 16k parameters",
        partial(vision_transformer, _VIT, side=28, patch=7, width=24, layers=2, heads=3),
        lr=0.004,
        target=0.79,
    ),
)


FASHION_CNN_4K = Task(
    name=_CNN_4K,
    description=f"FashionMNIST, 3-layer CNN of 4k parameters, loss, tuned rate; {_NEEDS}",
    build_model=partial(strided_cnn, 1),
    load_data=partial(load_fashion_mnist, task=_CNN_4K),
    batch_size=128,
    lr=0.02,
    total_steps=2_000,
    eval_every=50,
    target=0.42,
    period=200,
    metric=replace(VALIDATION_LOSS, name="test loss (nats)"),
    needs_data_root=True,
)

FASHION_CNN_4K_SLOW = replace(
    FASHION_CNN_4K,
    name=_CNN_4K_SLOW,
    description=f"FashionMNIST, 3-layer CNN of 4k parameters, loss, the paper's rate; {_NEEDS}",
    load_data=partial(load_fashion_mnist, task=_CNN_4K_SLOW),
    lr=0.006,
    target=0.47,
)
