"""Two small networks of timm on FashionMNIST, for ``ninokit compare``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from ninokit._optional import require
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.idx import load_idx

__all__ = ["TIMM_RESNET", "TIMM_VIT", "build_resnet", "build_vit"]

_RESNET, _VIT = "timm_resnet", "timm_vit"


def build_resnet() -> nn.Module:
    """A ResNet of four basic blocks whose stem is small enough for 28 by 28 pixels.

    Returns:
        timm's network from (B, 1, 28, 28) to (B, 10), with channels last in memory, which is faster; its maps are of
        14, 14, 7, 4 and 2 pixels a side.

    Raises:
        DependencyError: timm is missing.
    """
    network: nn.Module = require("timm", f"task {_RESNET!r}", "timm").create_model(
        "resnet18",
        in_chans=1,
        num_classes=10,
        layers=(1, 1, 1, 1),
        channels=(16, 24, 32, 48),
        stem_type="deep",
        stem_width=8,
    )
    network.maxpool = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def build_vit() -> nn.Module:
    """A vision transformer of three layers for 28 by 28 pixels, in 16 patches.

    Returns:
        timm's network from (B, 1, 28, 28) to (B, 10).

    Raises:
        DependencyError: timm is missing.
    """
    network: nn.Module = require("timm", f"task {_VIT!r}", "timm").create_model(
        "vit_tiny_patch16_224",
        img_size=28,
        patch_size=7,
        in_chans=1,
        num_classes=10,
        embed_dim=32,
        depth=3,
        num_heads=4,
    )
    return network


def _load(task: str, root: Path | None) -> ClassificationData:
    return load_idx(root, task=task, name="FashionMNIST")


TIMM_RESNET = Task(
    name=_RESNET,
    description="FashionMNIST, timm's ResNet of 4 blocks and 70k parameters; needs data_root with FashionMNIST/raw",
    build_model=build_resnet,
    load_data=partial(_load, _RESNET),
    batch_size=64,
    lr=0.004,
    weight_decay=0.05,
    total_steps=2_000,
    eval_every=50,
    target=0.89,
    period=200,
    needs_data_root=True,
    held_out=True,
)

TIMM_VIT = Task(
    name=_VIT,
    description="FashionMNIST, timm's 3-layer ViT of 41k parameters; needs data_root with FashionMNIST/raw",
    build_model=build_vit,
    load_data=partial(_load, _VIT),
    batch_size=64,
    lr=0.002,
    weight_decay=0.05,
    total_steps=2_000,
    eval_every=50,
    target=0.82,
    period=200,
    needs_data_root=True,
    held_out=True,
)
