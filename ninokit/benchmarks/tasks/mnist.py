"""MNIST with a tiny vision transformer and with an MLP: tasks to judge nowcasters by."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.idx import load_idx
from ninokit.benchmarks.tasks.networks import mlp
from ninokit.benchmarks.tasks.transformers import vision_transformer

_VIT, _MLP = "mnist_vit", "mnist_mlp"


def load_mnist(root: Path | None, task: str) -> ClassificationData:
    """MNIST from the four published files, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``MNIST/raw``. Nothing is written into it.
        task: the task's name, for error messages.

    Returns:
        55,000 training, 5,000 validation and 10,000 test images of shape (1, 28, 28).

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: torchvision is missing.
    """
    return load_idx(root, task=task, name="MNIST")


MNIST_VIT = Task(
    name=_VIT,
    description="MNIST, 2-layer vision transformer of 28k parameters; needs data_root with MNIST/raw",
    build_model=partial(vision_transformer, _VIT, side=28, patch=7, width=32, layers=2, heads=4),
    load_data=partial(load_mnist, task=_VIT),
    batch_size=128,
    lr=0.004,
    weight_decay=0.05,
    total_steps=3_000,
    eval_every=50,
    target=0.96,
    period=250,
    needs_data_root=True,
    held_out=True,
)

MNIST_MLP = Task(
    name=_MLP,
    description="MNIST, 3-layer MLP of 90k parameters; needs data_root with MNIST/raw",
    build_model=lambda: nn.Sequential(nn.Flatten(), *mlp(784, 100, 100, 10)),
    load_data=partial(load_mnist, task=_MLP),
    batch_size=128,
    lr=0.002,
    total_steps=3_000,
    eval_every=25,
    target=0.972,
    period=250,
    needs_data_root=True,
    held_out=True,
)
