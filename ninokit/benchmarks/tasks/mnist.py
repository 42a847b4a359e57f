"""MNIST with a tiny vision transformer."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.idx import load_idx

_NAME = "mnist_vit"
_WIDTH = 32
_PATCH = 7


def load_mnist(root: Path | None) -> ClassificationData:
    """MNIST from the four published files, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``MNIST/raw``. Nothing is written into it.

    Returns:
        55,000 training and 10,000 test images of shape (1, 28, 28).

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: torchvision is missing.
    """
    return load_idx(root, task=_NAME, name="MNIST")


def build_vit() -> nn.Module:
    """A vision transformer for grey images of 28 by 28 pixels, in 16 patches.

    Returns:
        torchvision's network from (B, 1, 28, 28) to (B, 10).

    Raises:
        DependencyError: torchvision is missing.
    """
    network: nn.Module = require("torchvision.models", f"task {_NAME!r}").VisionTransformer(
        image_size=28,
        patch_size=_PATCH,
        num_layers=2,
        num_heads=4,
        hidden_dim=_WIDTH,
        mlp_dim=4 * _WIDTH,
        num_classes=10,
    )
    network.conv_proj = _grey_patches()
    return network


def _grey_patches() -> nn.Conv2d:
    """An embedding of patches for one colour, initialised like torchvision's, which is always for three."""
    patches = nn.Conv2d(1, _WIDTH, _PATCH, stride=_PATCH)
    nn.init.trunc_normal_(patches.weight, std=1 / _PATCH)  # one over the root of the inputs of a patch
    nn.init.zeros_(patches.bias)  # type: ignore[arg-type]
    return patches


MNIST_VIT = Task(
    name=_NAME,
    description="MNIST, 2-layer vision transformer of 28k parameters; needs data_root with MNIST/raw",
    build_model=build_vit,
    load_data=load_mnist,
    batch_size=128,
    lr=0.004,
    weight_decay=0.05,
    total_steps=3_000,
    eval_every=50,
    target=0.96,
    period=250,
    needs_data_root=True,
)
