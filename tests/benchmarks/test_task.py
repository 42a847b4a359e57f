"""A task refuses what can't be trained, and scores a network as counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks import ClassificationData
from ninokit.errors import ConfigError, DatasetError


def _data(**changed: torch.Tensor) -> ClassificationData:
    tensors = {
        "train_inputs": torch.zeros(4, 3),
        "train_labels": torch.zeros(4, dtype=torch.int64),
        "test_inputs": torch.zeros(2, 3),
        "test_labels": torch.zeros(2, dtype=torch.int64),
    }
    return ClassificationData(**(tensors | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train_inputs": torch.zeros(4, 3, dtype=torch.uint8)},
            "train_inputs must be floating point; got torch.uint8",
        ),
        ({"test_labels": torch.zeros(2)}, "test_labels must be int64 of shape"),
        ({"train_labels": torch.zeros(4, 1, dtype=torch.int64)}, r"got torch.int64 of shape \(4, 1\)"),
        ({"train_inputs": torch.zeros(5, 3)}, r"got inputs \(5, 3\) and 4 labels"),
        ({"test_inputs": torch.zeros(2, 4)}, r"of one shape; got \(3,\) and \(4,\) an example"),
        (
            {"test_inputs": torch.zeros(0, 3), "test_labels": torch.zeros(0, dtype=torch.int64)},
            "at least one example",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(changed, message):
    with pytest.raises(DatasetError, match=message):
        _data(**changed)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("total_steps", 0),
        ("eval_every", 0),
        ("period", 0),
        ("period", 2.5),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("weight_decay", -0.1),
        ("target", 0.0),
        ("target", 89.5),
    ],
)
def test_settings_out_of_range_are_refused(tiny, setting, value):
    with pytest.raises(ConfigError, match=rf"^task 'tiny': {setting} must be .*; got {value!r}$"):
        replace(tiny, **{setting: value})


def test_score_is_the_share_of_correct_answers_over_several_batches(tiny):
    """4999 of 5000 examples, more than one evaluation batch, the wrong one last."""
    labels = torch.ones(5000, dtype=torch.int64)
    inputs = torch.tensor([[0.0, 1.0]]).repeat(5000, 1)
    inputs[-1] = torch.tensor([1.0, 0.0])
    data = ClassificationData(train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    assert tiny.evaluate(nn.Identity(), data) == 4999 / 5000


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_is_without_dropout_and_leaves_the_mode(tiny, training):
    model = nn.Dropout(p=1.0)
    model.train(training)
    inputs, labels = torch.eye(2), torch.tensor([0, 1])
    data = ClassificationData(train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    assert tiny.evaluate(model, data) == 1.0
    assert model.training is training


def test_loss_is_the_mean_cross_entropy(tiny):
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert tiny.loss(nn.Identity(), logits, torch.tensor([0, 1])).item() == pytest.approx(0.6931472)


def test_optimizer_is_adamw_with_the_tasks_settings(tiny):
    optimizer = tiny.build_optimizer(tiny.build_model())
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["lr"] == 0.01
    assert optimizer.defaults["weight_decay"] == 0.1
