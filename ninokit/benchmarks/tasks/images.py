"""What the published vision tasks share: where data lies, which images train, how pixels are normalised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ninokit.benchmarks.task import ClassificationData
from ninokit.errors import DatasetError


def data_folder(root: Path | None, task: str) -> Path:
    """The folder of the data sets, checked.

    Args:
        root: what the user gave.
        task: the task's name, for the error message.

    Returns:
        The folder.

    Raises:
        DatasetError: no folder was given, or there is none of that name.
    """
    if root is None:
        raise DatasetError(f"task {task!r} reads its data from a folder and none was given. Add data_root=FOLDER")
    if not root.is_dir():
        raise DatasetError(f"task {task!r}: the data folder {root} does not exist. Correct data_root")
    return root


def without_validation(examples: int) -> int:
    """How many of the training images train: the published runs hold the last twelfth back, for validation.

    Args:
        examples: training images of the data set.

    Returns:
        How many of them to keep, from the first on.
    """
    return examples - examples // 12


def normalised(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    task: str,
) -> ClassificationData:
    """The data of a vision task from raw images.

    Args:
        train: images of shape (N, channels, height, width), uint8 from 0 to 255, and labels of shape (N,).
            The last twelfth validates.
        test: the same of M test images, all of which are kept.
        mean: a number a channel, in units of the full pixel range.
        std: the same.
        task: its name, for the error message.

    Returns:
        Normalised float32 images with int64 labels.

    Raises:
        DatasetError: there are not as many labels as images.
    """
    for images, labels in (train, test):
        if labels.shape != images.shape[:1]:
            raise DatasetError(
                f"task {task!r}: expected a label for each of {len(images)} images; got labels of shape "
                f"{tuple(labels.shape)}. Fetch the data again"
            )
    kept = without_validation(len(train[0]))
    return ClassificationData(
        train_inputs=_normalise(train[0][:kept], mean, std),
        train_labels=train[1][:kept].long(),
        test_inputs=_normalise(test[0], mean, std),
        test_labels=test[1].long(),
        validation_inputs=_normalise(train[0][kept:], mean, std),
        validation_labels=train[1][kept:].long(),
    )


def _normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    per_channel = (-1, 1, 1)
    return (images / 255).sub_(torch.tensor(mean).view(per_channel)).div_(torch.tensor(std).view(per_channel))
