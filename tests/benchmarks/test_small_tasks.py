"""The small tasks to learn from: networks counted by hand, and their graphs proven."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import ninokit
from ninokit.benchmarks.tasks.convolutional import (
    Residual,
    batchnorm_layer,
    convolutional,
    depthwise_layer,
    plain_layer,
    residual_layer,
)
from ninokit.builtin.tasks import ninokit_tasks
from ninokit.testing import check_encoding

pytest.importorskip("transformers")
pytest.importorskip("torchvision")

TASKS = {task.name: task for task in ninokit_tasks()}


def _plain(taps, *widths):
    return sum((taps * a + 1) * b for a, b in pairwise([1, *widths])) + 10 * (widths[-1] + 1)


def _batchnorm(taps, *widths):
    return sum((taps * a + 2) * b for a, b in pairwise([1, *widths])) + 10 * (widths[-1] + 1)


def _depthwise(taps, *widths):
    return sum(taps * a + a * b + 2 * b for a, b in pairwise([1, *widths])) + 10 * (widths[-1] + 1)


def _residual(taps, *widths):
    """A block has two layers of its width."""
    blocks = sum((taps * a + 2) * b for a, b in pairwise(widths) if a == b)
    return _batchnorm(taps, *widths) + blocks


def _mlp(*widths):
    return sum((a + 1) * b for a, b in pairwise(widths))


def _transformer_layers(width, layers):
    """Attention, a feed-forward part four times as wide, two norms; all with biases. One more norm at the end."""
    return layers * (12 * width**2 + 13 * width) + 2 * width


def _vit(pixels, patches, width):
    embeddings = (pixels + 1) * width + width + (patches + 1) * width
    return embeddings + _transformer_layers(width, 2) + 10 * (width + 1)


SIZES = {
    "mnist1d_mlp_shallow": _mlp(40, 96, 10),
    "mnist1d_mlp_deep": _mlp(40, 48, 48, 48, 10),
    "mnist1d_batchnorm_cnn": _batchnorm(3, 16, 24, 32),
    "mnist1d_depthwise_cnn": _depthwise(3, 24, 32, 48),
    "mnist1d_resnet": _residual(3, 16, 16, 24, 24),
    "mnist1d_fresh_mlp": _mlp(40, 64, 64, 10),
    "mnist1d_fresh_cnn": (5 + 1) * 25 + 2 * (3 * 25 + 1) * 25 + 10 * (25 + 1),
    "digits_cnn": _plain(9, 12, 16, 24),
    "digits_batchnorm_cnn": _batchnorm(9, 12, 16, 24),
    "digits_depthwise_cnn": _depthwise(9, 16, 24, 32),
    "digits_resnet": _residual(9, 12, 12, 16, 16),
    "digits_vit": _vit(4, 16, 24),
    "fashion_mlp": _mlp(784, 20, 20, 10),
    "fashion_cnn": _plain(9, 8, 16, 24),
    "fashion_batchnorm_cnn": _batchnorm(9, 8, 16, 24),
    "fashion_depthwise_cnn": _depthwise(9, 16, 24, 32),
    "fashion_resnet": _residual(9, 8, 8, 16, 16),
    "fashion_vit": _vit(49, 16, 24),
    "fashion_cnn_4k": _plain(9, 8, 16, 16),
    "fashion_cnn_4k_slow": _plain(9, 8, 16, 16),
    "shakespeare_gpt2_narrow": (65 + 64) * 24 + _transformer_layers(24, 2),
    "shakespeare_gpt2_shallow": (65 + 64) * 32 + _transformer_layers(32, 1),
    "shakespeare_gpt2_tiny": (65 + 64) * 32 + _transformer_layers(32, 2),
    "shakespeare_gpt2_tiny_slow": (65 + 64) * 32 + _transformer_layers(32, 2),
    "fm32": _plain(9, 32, 64, 64),
    "mnist_mlp": _mlp(784, 100, 100, 10),
    "wikitext2_gpt2": (2048 + 64) * 64 + _transformer_layers(64, 3),
}
IMAGES = {"digits": (1, 8, 8), "fashion": (1, 28, 28), "fm32": (1, 28, 28), "mnist": (1, 28, 28)}


def _inputs(name: str) -> torch.Tensor:
    """Two examples as the task's data has them."""
    if "gpt2" in name:
        return torch.randint(65, (2, 64))
    if name.startswith("mnist1d"):
        return torch.randn(2, 40) if "mlp" in name else torch.randn(2, 1, 40)
    return torch.randn(2, *IMAGES[name.partition("_")[0]])


@pytest.mark.parametrize("name", SIZES)
def test_networks_are_counted_by_hand(name):
    model = TASKS[name].build_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]
    inputs = _inputs(name)
    classes = {"shakespeare": (64, 65), "wikitext2": (64, 2048)}.get(name.partition("_")[0], (10,))
    assert tuple(model(inputs).shape) == (2, *classes)


@pytest.mark.parametrize("name", SIZES)
def test_descriptions_say_how_many_parameters(name):
    if name != "fm32":  # by its published name
        assert f"of {SIZES[name] / 1000:.0f}k parameters" in TASKS[name].description


@pytest.mark.parametrize("name", [name for name in SIZES if name not in {"wikitext2_gpt2", "fm32", "mnist_mlp"}])
def test_graphs_hold_every_parameter_and_are_proved(name):
    task = TASKS[name]
    model = task.build_model()
    graph = ninokit.encode(model, task.example_inputs())
    assert graph.num_parameters == SIZES[name]
    assert check_encoding(model, _inputs(name), graph, min_share=0.9).change < 1e-9


def test_what_is_kept_for_judging():
    held_out = {name for name, task in TASKS.items() if task.held_out}
    finetuning = {"finetune_cnn", "finetune_lora_gpt2"}
    assert held_out == {"fm32", "c10_16", "c10_cnn_4k", "mnist_mlp", "mnist_vit", "wikitext2_gpt2"} | finetuning
    judged = ("CIFAR-10,", "MNIST,", "MNIST after", "WikiText-2,")
    assert all(task.held_out for task in TASKS.values() if task.description.startswith(judged))


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("layer", [plain_layer, batchnorm_layer, depthwise_layer, residual_layer])
def test_maps_halve_where_the_width_changes(layer, dimensions):
    network = convolutional(layer, dimensions, (4, 4, 6), first_stride=1)
    maps = torch.randn(2, 1, *[8] * dimensions)
    shapes = []
    for module in network:
        maps = module(maps)
        shapes.append(tuple(maps.shape))
    assert shapes[-4] == (2, 6, *[4] * dimensions)
    assert (2, 4, *[8] * dimensions) in shapes
    assert shapes[-1] == (2, 10)


def test_a_residual_adds_its_input():
    block = Residual(nn.Linear(3, 3), nn.ReLU())
    x = torch.randn(2, 3)
    torch.testing.assert_close(block(x), x + torch.relu(block[0](x)))


def test_depthwise_convolutions_mix_no_channels():
    depthwise, pointwise, *_ = depthwise_layer(2, 4, 6, 1)
    x = torch.randn(1, 4, 5, 5)
    changed = x.clone()
    changed[:, 2] += 1
    difference = (depthwise(changed) - depthwise(x)).abs().amax(dim=(0, 2, 3))
    assert (difference > 0).tolist() == [False, False, True, False]
    assert pointwise.kernel_size == (1, 1)


def test_the_4k_cnn_halves_its_maps_twice():
    """28 pixels become 13 without padding, then 7 with padding."""
    model, images = TASKS["fashion_cnn_4k"].build_model(), torch.randn(2, 1, 28, 28)
    assert model[:2](images).shape == (2, 8, 13, 13)
    assert model[:4](images).shape == (2, 16, 7, 7)
    assert model[:6](images).shape == (2, 16, 7, 7)
