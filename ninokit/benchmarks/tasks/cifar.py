"""CIFAR-10 with small convolutional networks: C10-16 as published, and one of 4k parameters."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ninokit._optional import require
from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.images import data_folder, normalised
from ninokit.benchmarks.tasks.networks import strided_cnn, vision_cnn
from ninokit.errors import DatasetError

_C10_16, _CNN_4K = "c10_16", "c10_cnn_4k"
_PICKLES = "cifar-10-batches-py"
_ARRAYS = "cifar10.npz"
_NEEDS = f"needs data_root with {_PICKLES} or {_ARRAYS}"
_MEAN = (0.49139968, 0.48215827, 0.44653124)
_STD = (0.24703233, 0.24348505, 0.26158768)

# Images (N, 32, 32, 3) uint8 and labels (N,).
_Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def load_cifar10(root: Path | None, task: str) -> ClassificationData:
    """CIFAR-10 from the published pickles or from one array file.

    Args:
        root: the folder that holds ``cifar-10-batches-py``, with the published checksums, or else
            ``cifar10.npz`` with uint8 images ``train_x`` and ``test_x`` of shape (N, 32, 32, 3) and labels
            ``train_y`` and ``test_y`` of shape (N,). Nothing is written into it.
        task: the task's name, for error messages.

    Returns:
        45,834 training, 4,166 validation and 10,000 test images of shape (3, 32, 32).

    Raises:
        DatasetError: neither is there, or the arrays are not as described.
        DependencyError: the pickles are there and torchvision is missing.
    """
    folder = data_folder(root, task)
    train, test = _from_pickles(folder, task) or _from_arrays(folder, task)
    return normalised(_tensors(train), _tensors(test), mean=_MEAN, std=_STD, task=task)


def _from_pickles(folder: Path, task: str) -> tuple[_Split, _Split] | None:
    if not (folder / _PICKLES).is_dir():
        return None
    dataset = require("torchvision.datasets", f"task {task!r}").CIFAR10
    try:
        train, test = dataset(folder, train=True), dataset(folder, train=False)
    except RuntimeError:  # torchvision's answer to a missing file or a wrong checksum
        return None
    return (train.data, np.asarray(train.targets)), (test.data, np.asarray(test.targets))


def _from_arrays(folder: Path, task: str) -> tuple[_Split, _Split]:
    path = folder / _ARRAYS
    if not path.is_file():
        found = "is there but incomplete or altered" if (folder / _PICKLES).is_dir() else "is missing"
        raise DatasetError(
            f"task {task!r}: no CIFAR-10 in {folder}: {_PICKLES} {found}, and there is no {_ARRAYS}. "
            "Unpack the published Python version there, or set data_root to the folder of one of the two"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"task {task!r}: {path} can't be read ({error}). Put a whole one there") from error
    missing = [key for key in ("train_x", "train_y", "test_x", "test_y") if key not in arrays]
    if missing:
        raise DatasetError(f"task {task!r}: {path} lacks {', '.join(missing)}; it has {', '.join(arrays)}")
    train, test = (arrays["train_x"], arrays["train_y"]), (arrays["test_x"], arrays["test_y"])
    for key, (images, _) in (("train_x", train), ("test_x", test)):
        _check_images(path, key, images, task)
    return train, test


def _check_images(path: Path, key: str, images: npt.NDArray[Any], task: str) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3):
        raise DatasetError(
            f"task {task!r}: {key} in {path} must be uint8 of shape (N, 32, 32, 3); "
            f"got {images.dtype} of shape {images.shape}"
        )


def _tensors(split: _Split) -> tuple[Tensor, Tensor]:
    images, labels = split
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


C10_16 = Task(
    name=_C10_16,
    description=f"CIFAR-10, 3-layer CNN (published C10-16); {_NEEDS}",
    build_model=lambda: vision_cnn(3),
    load_data=partial(load_cifar10, task=_C10_16),
    batch_size=128,
    lr=0.003,
    total_steps=10_000,
    # An evaluation takes as long as some 25 steps.
    eval_every=100,
    target=0.66,
    period=1_000,
    needs_data_root=True,
    held_out=True,
)

C10_CNN_4K = Task(
    name=_CNN_4K,
    description=f"CIFAR-10, 3-layer CNN of 4k parameters, loss; {_NEEDS}",
    build_model=partial(strided_cnn, 3),
    load_data=partial(load_cifar10, task=_CNN_4K),
    batch_size=128,
    lr=0.01,
    total_steps=2_000,
    eval_every=50,
    target=1.36,
    period=200,
    metric=replace(VALIDATION_LOSS, name="test loss (nats)"),
    needs_data_root=True,
    held_out=True,
)
