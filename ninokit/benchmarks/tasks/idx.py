"""MNIST and its relatives: four files of the IDX format, read through torchvision."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData
from ninokit.benchmarks.tasks.images import data_folder, normalised
from ninokit.errors import DatasetError

# MNIST's; the published runs on FashionMNIST use them too.
_MEAN, _STD = (0.1307,), (0.3081,)


def load_idx(root: Path | None, *, task: str, name: str) -> ClassificationData:
    """The images of an IDX data set from its four published files, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``name/raw``. Nothing is written into it.
        task: the task's name, for error messages.
        name: of torchvision's class, and of the folder: ``"MNIST"`` or ``"FashionMNIST"``.

    Returns:
        Normalised images of shape (1, 28, 28); of the training images the last twelfth validates.

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: torchvision is missing.
    """
    folder = data_folder(root, task)
    dataset = getattr(require("torchvision.datasets", f"task {task!r}"), name)
    raw = folder / name / "raw"
    if all((raw / file).with_suffix("").is_file() for file, _ in dataset.resources):
        return _read(dataset, folder, task)
    for file, md5 in dataset.resources:
        _check_packed(raw / file, md5, task, name)
    with tempfile.TemporaryDirectory(prefix=f"ninokit-{name}-") as staging:
        _copy(dataset, raw, Path(staging) / name / "raw")
        # Finds the packed files complete (checked before), so it unpacks them and downloads nothing.
        dataset(staging, download=True)
        return _read(dataset, Path(staging), task)


def _check_packed(path: Path, md5: str, task: str, name: str) -> None:
    """Refuse what torchvision would otherwise answer with a download."""
    if not path.is_file():
        raise DatasetError(
            f"task {task!r}: {path} is missing. Expected the four {name} files, packed (.gz) or "
            f"unpacked, in {path.parent}. Put them there, or set data_root to the folder of {name}/raw"
        )
    if not require("torchvision.datasets.utils", f"task {task!r}").check_integrity(str(path), md5):
        raise DatasetError(
            f"task {task!r}: {path} is damaged: its MD5 is not the published {md5}. Fetch the file again"
        )


def _copy(dataset: Any, raw: Path, staging: Path) -> None:
    staging.mkdir(parents=True)
    for file, _ in dataset.resources:
        shutil.copyfile(raw / file, staging / file)


def _read(dataset: Any, root: Path, task: str) -> ClassificationData:
    try:
        train, test = dataset(root, train=True), dataset(root, train=False)
    except (RuntimeError, ValueError, LookupError, AssertionError) as error:  # what the reader has for a damaged file
        raise DatasetError(
            f"task {task!r}: a file in {root / dataset.__name__ / 'raw'} is damaged ({type(error).__name__}: {error}). "
            "Fetch it again"
        ) from error
    return normalised(_split(train), _split(test), mean=_MEAN, std=_STD, task=task)


def _split(dataset: Any) -> tuple[Tensor, Tensor]:
    return dataset.data.unsqueeze(1), dataset.targets
