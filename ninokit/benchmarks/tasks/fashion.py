"""FM-16: FashionMNIST with a small convolutional network, as published."""

from __future__ import annotations

from pathlib import Path

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.idx import load_idx
from ninokit.benchmarks.tasks.networks import vision_cnn

_NAME = "fm16"


def load_fashion_mnist(root: Path | None) -> ClassificationData:
    """FashionMNIST from the four published files, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``FashionMNIST/raw``. Nothing is written into it.

    Returns:
        55,000 training and 10,000 test images of shape (1, 28, 28).

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: torchvision is missing.
    """
    return load_idx(root, task=_NAME, name="FashionMNIST")


FM16 = Task(
    name=_NAME,
    description="FashionMNIST, 3-layer CNN (published FM-16); needs data_root with FashionMNIST/raw",
    build_model=lambda: vision_cnn(1),
    load_data=load_fashion_mnist,
    batch_size=128,
    lr=0.006,
    total_steps=10_000,
    eval_every=25,
    target=0.895,
    period=1_000,
    needs_data_root=True,
)
