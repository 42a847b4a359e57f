"""The tasks with timm's networks: networks counted by hand, the proof of their graphs, short runs."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

import ninokit
from ninokit.benchmarks import ClassificationData
from ninokit.benchmarks.training import train
from ninokit.errors import DatasetError, DependencyError
from ninokit.plugins import registry
from ninokit.testing import check_encoding
from ninokit_timm.tasks import TIMM_RESNET, TIMM_VIT

pytest.importorskip("timm")

TASKS = [pytest.param(task, id=task.name) for task in (TIMM_RESNET, TIMM_VIT)]


def _convolution(before: int, after: int, kernel: int = 3) -> int:
    """Without a bias, but with a norm."""
    return kernel**2 * before * after + 2 * after


def _layer(width: int) -> int:
    """Attention, four times as wide feed-forward part, two norms; all with biases."""
    return 4 * (width**2 + width) + 2 * 4 * width**2 + 5 * width + 2 * 2 * width


SIZES = {
    "timm_resnet": sum(_convolution(a, b) for a, b in pairwise((1, 8, 8, 16)))
    + sum(_convolution(a, b) + _convolution(b, b) for a, b in pairwise((16, 16, 24, 32, 48)))
    + sum(_convolution(a, b, kernel=1) for a, b in pairwise((16, 24, 32, 48)))
    + (48 * 10 + 10),
    "timm_vit": (49 * 32 + 32) + 32 + 17 * 32 + 3 * _layer(32) + 2 * 32 + (32 * 10 + 10),
}


@pytest.fixture
def data() -> ClassificationData:
    """Bright and dark noise."""
    labels = torch.arange(40) % 2
    images = torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(0)) + labels.view(-1, 1, 1, 1)
    return ClassificationData(
        train_inputs=images[:30], train_labels=labels[:30], test_inputs=images[30:], test_labels=labels[30:]
    )


@pytest.mark.parametrize("task", TASKS)
def test_registered(task):
    assert registry().tasks()[task.name] is task
    assert task.needs_data_root


@pytest.mark.parametrize("task", TASKS)
def test_networks_and_the_proof_of_their_graphs(task):
    model, images = task.build_model(), torch.linspace(-1, 1, 2 * 784).view(2, 1, 28, 28)
    assert tuple(model(images).shape) == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[task.name]
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    graph = ninokit.encode(model)
    assert graph.num_parameters == SIZES[task.name]
    assert check_encoding(model, images, graph, min_share=0.99).change < 1e-9


def test_the_maps_of_the_resnet_are_not_too_small():
    sides = []
    model = TIMM_RESNET.build_model()
    for module in (model.act1, model.layer1, model.layer2, model.layer3, model.layer4):
        module.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    model(torch.zeros(2, 1, 28, 28))
    assert sides == [14, 14, 7, 4, 2]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_learns_nowcasts_and_repeats_bit_for_bit(task, data):
    short = replace(task, total_steps=20, eval_every=10, period=5, batch_size=10, lr=0.003)

    def attach(optimizer, model):
        return ninokit.attach(optimizer, model, "linefit", period=short.period, total_steps=short.total_steps)

    first, second = (train(short, data, seed=0, attach=attach) for _ in range(2))
    assert [event.accepted for event in first.events] == [True, True, True]
    assert [(p.train_loss, p.score) for p in first.points] == [(p.train_loss, p.score) for p in second.points]
    assert first.points[-1].train_loss < first.points[0].train_loss / 2


@pytest.mark.parametrize("task", TASKS)
def test_the_data_is_fashion_mnist(task, tmp_path):
    missing = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    message = (
        f"task '{task.name}': {missing} is missing. Expected the four FashionMNIST files, packed (.gz) or unpacked, in "
        f"{missing.parent}. Put them there, or set data_root to the folder of FashionMNIST/raw"
    )
    with pytest.raises(DatasetError, match=f"^{re.escape(message)}$"):
        task.load_data(tmp_path)


@pytest.mark.parametrize("task", TASKS)
def test_without_timm_it_says_what_to_install(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    expected = rf"^task '{task.name}' needs the package 'timm'.*: pip install \"ninokit\[timm\]\"$"
    with pytest.raises(DependencyError, match=expected):
        task.build_model()
