"""The handwritten digits that scikit-learn ships: 1797 images of 8 by 8 pixels."""

from __future__ import annotations

from pathlib import Path

import torch

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.networks import mlp

_SPLIT_SEED = 0
_BRIGHTEST = 16.0


def load_digits(root: Path | None = None) -> ClassificationData:
    """The digits, split once and for all into 80 % for training and 20 % for testing.

    Args:
        root: not used; the data comes with scikit-learn.

    Returns:
        1437 training and 360 test images of shape (64,), pixels from 0 to 1.

    Raises:
        DependencyError: scikit-learn is missing.
    """
    images, labels = require("sklearn.datasets", "task 'digits_mlp'").load_digits(return_X_y=True)
    inputs, classes = torch.from_numpy(images).float() / _BRIGHTEST, torch.from_numpy(labels).long()
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    return ClassificationData(
        train_inputs=inputs[train],
        train_labels=classes[train],
        test_inputs=inputs[test],
        test_labels=classes[test],
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
