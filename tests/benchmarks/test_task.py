"""A task refuses what can't be trained, and scores a network as counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ninokit.benchmarks import ACCURACY, VALIDATION_LOSS, ClassificationData
from ninokit.benchmarks.training import train
from ninokit.errors import ConfigError, DatasetError
from ninokit.pretraining.stacked_training import initial_network


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
            "train_inputs must be floating point, or int64 for tokens; got torch.uint8",
        ),
        ({"test_labels": torch.zeros(2)}, "test_labels must be int64 of shape"),
        ({"train_labels": torch.zeros(4, 1, dtype=torch.int64)}, r"got torch.int64 of shape \(4, 1\)"),
        ({"train_inputs": torch.zeros(5, 3)}, r"got inputs \(5, 3\) and 4 labels"),
        ({"test_inputs": torch.zeros(2, 4)}, r"of one shape; got \(3,\) and \(4,\) an example"),
        (
            {"test_inputs": torch.zeros(0, 3), "test_labels": torch.zeros(0, dtype=torch.int64)},
            "at least one example",
        ),
        (
            {"validation_inputs": torch.zeros(2, 4), "validation_labels": torch.zeros(2, dtype=torch.int64)},
            r"expected training and validation inputs of one shape; got \(3,\) and \(4,\) an example$",
        ),
        (
            {"validation_inputs": torch.zeros(2, 3), "validation_labels": torch.zeros(2)},
            "validation_labels must be int64 of shape",
        ),
        (
            {"validation_inputs": torch.zeros(2, 3)},
            "expected validation_inputs and validation_labels, or neither; got one of the two$",
        ),
        (
            {"validation_labels": torch.zeros(2, dtype=torch.int64)},
            "expected validation_inputs and validation_labels, or neither; got one of the two$",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(changed, message):
    with pytest.raises(DatasetError, match=message):
        _data(**changed)


def _tokens(**changed: torch.Tensor) -> ClassificationData:
    zeros = {name: torch.zeros(4, 3, dtype=torch.int64) for name, value in vars(_data()).items() if value is not None}
    return ClassificationData(**(zeros | changed))


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"train_labels": torch.zeros(4, dtype=torch.int64)}, r"inputs \(4, 3\) and torch.int64 labels \(4,\)"),
        ({"test_labels": torch.zeros(4, 3)}, r"inputs \(4, 3\) and torch.float32 labels \(4, 3\)"),
        ({"test_inputs": torch.zeros(5, 3, dtype=torch.int64)}, r"inputs \(5, 3\) and torch.int64 labels \(4, 3\)"),
        (
            {name: torch.zeros(0, 3, dtype=torch.int64) for name in ("train_inputs", "train_labels")},
            r"inputs \(0, 3\) and torch.int64 labels \(0, 3\)",
        ),
    ],
)
def test_tokens_want_a_label_each(changed, got):
    expected = (
        r"s are tokens and must have shape \(examples, tokens\), with int64 labels of the same shape, "
        rf"and at least one example; got {got}$"
    )
    _tokens()
    with pytest.raises(DatasetError, match=expected):
        _tokens(**changed)


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


@pytest.mark.parametrize("target", [0.0, float("nan"), float("inf"), -1.0])
def test_a_loss_has_targets_above_one_but_not_these(tiny, target):
    assert replace(tiny, metric=VALIDATION_LOSS, target=3.5).target == 3.5
    with pytest.raises(ConfigError) as caught:
        replace(tiny, metric=VALIDATION_LOSS, target=target)
    assert str(caught.value) == f"task 'tiny': target must be a validation loss (nats) above 0; got {target!r}"


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


class _Bigrams(nn.Module):
    """Logits of the next token from a table, shape (B, T) to (B, T, 3)."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens]


def test_loss_and_scores_of_tokens_are_means_over_all_of_them(tiny):
    """700 sequences of 2 tokens, more than one evaluation batch; the last one differs."""
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    model = _Bigrams(probabilities.log())
    inputs = torch.tensor([[0, 1]]).repeat(700, 1)
    labels = torch.tensor([[0, 1]]).repeat(700, 1)
    labels[-1] = torch.tensor([1, 1])
    data = ClassificationData(train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    # A token 0 is followed by 0 but for one, a token 1 by 1.
    nats = -(699 * math.log(0.5) + math.log(0.25) + 700 * math.log(0.8)) / 1400
    assert replace(tiny, metric=VALIDATION_LOSS).evaluate(model, data) == pytest.approx(nats, rel=1e-6)
    assert tiny.loss(model, inputs, labels).item() == pytest.approx(nats, rel=1e-5)
    assert replace(tiny, metric=ACCURACY).evaluate(model, data) == 1399 / 1400


def test_optimizer_is_adamw_with_the_tasks_settings(tiny):
    optimizer = tiny.build_optimizer(tiny.build_model())
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["lr"] == 0.01
    assert optimizer.defaults["weight_decay"] == 0.1


def _numbered(**validation: torch.Tensor) -> ClassificationData:
    """Five test examples; an example's number is its input and its label."""
    numbers = torch.arange(5)
    return ClassificationData(
        train_inputs=torch.zeros(1, 1),
        train_labels=torch.zeros(1, dtype=torch.int64),
        test_inputs=numbers.float().unsqueeze(1),
        test_labels=numbers,
        **validation,
    )


def _numbers(data: ClassificationData, split: str) -> list[int]:
    inputs, labels = data.held_out(split)
    assert inputs.flatten().tolist() == labels.tolist()
    return labels.tolist()


def test_without_validation_data_the_first_half_of_the_test_data_validates():
    data = _numbered()
    assert _numbers(data, "validation") == [0, 1]
    assert _numbers(data, "test") == [2, 3, 4]


def test_with_validation_data_the_test_data_stay_whole():
    data = _numbered(validation_inputs=torch.full((3, 1), 9.0), validation_labels=torch.full((3,), 9))
    assert _numbers(data, "validation") == [9, 9, 9]
    assert _numbers(data, "test") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_one_test_example_cannot_be_split(split):
    single = {"test_inputs": torch.zeros(1, 3), "test_labels": torch.zeros(1, dtype=torch.int64)}
    with pytest.raises(DatasetError) as caught:
        _data(**single).held_out(split)
    assert str(caught.value) == (
        "classification data: expected validation data, or at least 2 test examples to be split into validation and "
        "test data; got 1"
    )


def test_all_of_the_data_moves_to_a_device():
    data = _numbered(validation_inputs=torch.zeros(3, 1), validation_labels=torch.zeros(3, dtype=torch.int64))
    moved = replace(data, weights={"0.bias": torch.zeros(8)}).to("meta")
    assert moved.weights["0.bias"].is_meta
    assert all(value.is_meta for name, value in vars(moved).items() if name != "weights")
    assert data.to("cpu").weights is None
    assert _numbered().to("cpu").validation_inputs is None


@pytest.mark.parametrize("training", [True, False])
def test_held_out_loss_is_the_mean_over_a_split_without_dropout(tiny, training):
    """700 validation examples, more than one batch, the last one surprising; the metric (accuracy) plays no part."""
    surprising = torch.ones(700, dtype=torch.int64)
    surprising[-1] = 0
    probabilities = torch.tensor([0.25, 0.75])
    data = ClassificationData(
        train_inputs=torch.zeros(1, 2),
        train_labels=torch.zeros(1, dtype=torch.int64),
        test_inputs=probabilities.log().repeat(2, 1),
        test_labels=torch.tensor([0, 1]),
        validation_inputs=probabilities.log().repeat(700, 1),
        validation_labels=surprising,
    )
    model = nn.Dropout(p=1.0).train(training)
    nats = -(699 * math.log(0.75) + math.log(0.25)) / 700
    assert tiny.held_out_loss(model, data) == pytest.approx(nats, rel=1e-6)
    assert tiny.held_out_loss(model, data, "test") == pytest.approx(-math.log(0.75 * 0.25) / 2, rel=1e-6)
    assert model.training is training


def test_the_mode_is_kept_when_a_network_fails(tiny):
    model = nn.Linear(7, 3).train()
    with pytest.raises(RuntimeError):
        tiny.held_out_loss(model, _data())
    assert model.training


def test_a_network_starts_from_the_datas_weights_and_keeps_what_they_do_not_name(tiny):
    weights = {"0.weight": torch.full((8, 2), 3.0), "2.bias": torch.arange(3.0)}
    data = replace(tiny.load_data(None), weights=weights)
    torch.manual_seed(4)
    model = tiny.build_from(data).state_dict()
    torch.manual_seed(4)
    own = tiny.build_model().state_dict()
    assert model.keys() == own.keys()
    for name, value in model.items():
        assert torch.equal(value, weights.get(name, own[name]))


def test_the_datas_weights_are_copied(tiny):
    data = replace(tiny.load_data(None), weights={"2.bias": torch.zeros(3)})
    with torch.no_grad():
        tiny.build_from(data)[2].bias.fill_(1.0)
    assert not data.weights["2.bias"].any()


def test_without_weights_a_network_is_as_the_task_builds_it(tiny):
    torch.manual_seed(4)
    model = tiny.build_from(tiny.load_data(None))
    torch.manual_seed(4)
    assert torch.equal(model[0].weight, tiny.build_model()[0].weight)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0.weight", "shape (8, 2)"), ("7.weight", "one of its names, such as '0.bias'")],
)
def test_weights_that_do_not_fit_are_refused(tiny, name, expected):
    data = replace(tiny.load_data(None), weights={"0.bias": torch.zeros(8), name: torch.zeros(2, 8)})
    with pytest.raises(DatasetError) as caught:
        tiny.build_from(data)
    assert str(caught.value) == (
        f"task 'tiny': the weight {name!r} of shape (2, 8), to start from, does not fit the network; expected "
        f"{expected}. Let load_data give weights of the network that build_model makes"
    )


def test_a_run_and_a_collected_network_start_from_the_datas_weights(tiny):
    """Of zero weights and biases only the last bias gets a gradient, so that all classes are one's answer."""
    zeros = {name: torch.zeros_like(value) for name, value in tiny.build_model().state_dict().items()}
    data = replace(tiny.load_data(None), weights=zeros)
    task = replace(tiny, metric=VALIDATION_LOSS, total_steps=1, lr=1e-9)
    assert train(task, data, seed=0).points[0].score == pytest.approx(math.log(3), abs=1e-6)
    assert not initial_network(tiny, 0, data)[0].weight.any()
