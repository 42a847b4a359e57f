"""Pretrained weights: the training by hand, and a cache that holds whole results alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from ninokit.benchmarks import ClassificationData
from ninokit.benchmarks.tasks import pretrained
from ninokit.benchmarks.tasks.networks import mlp
from ninokit.benchmarks.tasks.pretrained import Pretraining
from ninokit.errors import DatasetError

INPUTS = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS.sum(dim=1) > 0).long()
DATA = ClassificationData(train_inputs=INPUTS, train_labels=LABELS, test_inputs=INPUTS, test_labels=LABELS)
SMALL = Pretraining(
    name="small", build_model=partial(mlp, 2, 4, 2), batch_size=8, lr=0.1, weight_decay=0.5, steps=3, seed=3
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path))
    return tmp_path / "pretrained"


def _by_hand() -> dict[str, torch.Tensor]:
    """Twenty examples in batches of 8, 8 and 4; Adam's moments, decay and the falling rate written out."""
    torch.manual_seed(3)
    model = mlp(2, 4, 2)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(20, generator=generator)
    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in model.named_parameters()}
    for step, batch in enumerate(order.split(8)):
        model.zero_grad()
        functional.cross_entropy(model(INPUTS[batch]), LABELS[batch]).backward()
        lr = 0.1 * (3 - step) / 3
        for name, p in model.named_parameters():
            first, second = moments[name]
            first.mul_(0.9).add_(0.1 * p.grad)
            second.mul_(0.999).add_(0.001 * p.grad**2)
            update = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            p.data.mul_(1 - lr * 0.5).sub_(lr * update)
    return {name: p.detach() for name, p in model.named_parameters()}


def test_weights_are_those_of_adamw_with_a_rate_that_falls_to_zero():
    torch.testing.assert_close(SMALL.weights(DATA), _by_hand(), rtol=1e-4, atol=1e-6)


def test_the_second_time_nothing_is_trained(cache, caplog):
    caplog.set_level(logging.INFO, "ninokit")
    first = SMALL.weights(DATA)
    (file,) = cache.glob("*.safetensors")
    assert file == SMALL.path(DATA)
    assert caplog.messages == [f"pretraining 'small': 3 steps; the result will be kept as {file}"]
    caplog.clear()
    kept = {name: value + 1 for name, value in first.items()}
    save_file(kept, file)
    torch.testing.assert_close(SMALL.weights(DATA), kept, rtol=0, atol=0)
    assert not caplog.messages


def test_the_same_bits_again_and_the_global_random_state_kept(cache):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = SMALL.weights(DATA)
    assert torch.equal(torch.rand(1), expected)
    SMALL.path(DATA).unlink()
    torch.testing.assert_close(SMALL.weights(DATA), first, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"build_model": partial(mlp, 2, 5, 2)},
        {"build_model": partial(nn.Linear, 2, 2)},
        {"build_model": partial(nn.Linear, 2, 2, bias=False)},
        {"batch_size": 7},
        {"lr": 0.2},
        {"weight_decay": 0.0},
        {"steps": 6},
        {"seed": 4},
    ],
)
def test_other_settings_are_another_file(changed):
    others = [SMALL, replace(SMALL, build_model=partial(nn.Linear, 2, 2, bias=True))]
    assert replace(SMALL, **changed).path(DATA) not in {other.path(DATA) for other in others}


@pytest.mark.parametrize("part", ["train_inputs", "train_labels"])
def test_other_data_are_another_file(part):
    changed = getattr(DATA, part).clone()
    changed[-1] = 1 - changed[-1]
    assert SMALL.path(replace(DATA, **{part: changed})) != SMALL.path(DATA)
    assert SMALL.path(replace(DATA, test_labels=1 - LABELS)) == SMALL.path(DATA)


def test_what_is_cut_off_while_it_is_written_is_never_read(cache, monkeypatch):
    def cut(weights: dict[str, torch.Tensor], path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "save_file", cut)
        with pytest.raises(KeyboardInterrupt):
            SMALL.weights(DATA)
    assert not SMALL.path(DATA).exists()
    torch.testing.assert_close(SMALL.weights(DATA), _by_hand(), rtol=1e-4, atol=1e-6)
    assert not list(cache.glob("*.partial"))


def test_a_damaged_file_is_named(cache):
    SMALL.weights(DATA)
    file = SMALL.path(DATA)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DatasetError) as caught:
        SMALL.weights(DATA)
    assert str(caught.value).startswith(f"{file}: expected the weights of a pretraining; the file is damaged (")
    assert str(caught.value).endswith("). Remove it, and they are trained again")


class _Tied(nn.Module):
    """Two layers of one matrix, stored with its last axis first, and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)
        self.first.weight = self.second.weight = nn.Parameter(torch.eye(2).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(x)))


def test_shared_parameters_are_kept_once_and_buffers_too():
    weights = replace(SMALL, build_model=partial(_Tied)).weights(DATA)
    names = {name for name in _Tied().state_dict() if name != "second.weight"}
    assert set(weights) == names
    assert weights["norm.num_batches_tracked"] == 3
    assert load_file(replace(SMALL, build_model=partial(_Tied)).path(DATA)).keys() == names
