"""FM-16: FashionMNIST with a small convolutional network, as published."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.images import data_folder, normalised
from ninokit.benchmarks.tasks.networks import vision_cnn
from ninokit.errors import DatasetError

_NAME = "fm16"
_RAW = Path("FashionMNIST") / "raw"


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
    folder = data_folder(root, _NAME)
    dataset = require("torchvision.datasets", f"task {_NAME!r}").FashionMNIST
    raw = folder / _RAW
    packed = dict(dataset.resources)
    if all((raw / name).with_suffix("").is_file() for name in packed):
        return _read(dataset, folder)
    for name, md5 in packed.items():
        _check_packed(raw / name, md5)
    with tempfile.TemporaryDirectory(prefix="ninokit-fashion-mnist-") as staging:
        _unpack(dataset, raw, Path(staging))
        return _read(dataset, Path(staging))


def _check_packed(path: Path, md5: str) -> None:
    """Refuse what torchvision would otherwise answer with a download."""
    if not path.is_file():
        raise DatasetError(
            f"task {_NAME!r}: {path} is missing. Expected the four FashionMNIST files, packed (.gz) or "
            f"unpacked, in {path.parent}. Put them there, or set data_root to the folder of {_RAW.as_posix()}"
        )
    if not require("torchvision.datasets.utils", f"task {_NAME!r}").check_integrity(str(path), md5):
        raise DatasetError(
            f"task {_NAME!r}: {path} is damaged: its MD5 is not the published {md5}. Fetch the file again"
        )


def _unpack(dataset: Any, raw: Path, staging: Path) -> None:
    (staging / _RAW).mkdir(parents=True)
    for name, _ in dataset.resources:
        shutil.copyfile(raw / name, staging / _RAW / name)
    # Finds the packed files complete (checked before), so it unpacks them and downloads nothing.
    dataset(staging, download=True)


def _read(dataset: Any, root: Path) -> ClassificationData:
    train, test = dataset(root, train=True), dataset(root, train=False)
    return normalised(_split(train), _split(test), mean=(0.1307,), std=(0.3081,))


def _split(dataset: Any) -> tuple[Tensor, Tensor]:
    return dataset.data.unsqueeze(1), dataset.targets


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
