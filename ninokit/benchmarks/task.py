"""What a benchmark task is: a model, its data, the baseline's settings and the target to reach.

Shapes: N training, V validation and M test examples, B examples in a batch, T tokens a sequence, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ninokit.benchmarks.metric import ACCURACY, VALIDATION_LOSS, Metric, mean_cross_entropy
from ninokit.errors import ConfigError, DatasetError

# What is held out of the training: to tune by, and to judge by.
HeldOut = Literal["validation", "test"]

# Keeps an evaluation's feature maps in the processor's cache; it has no influence on the result.
_TEST_BATCH = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassificationData:
    """A classification data set that lies in memory, ready for the network.

    A language model's is one too: every token is classified as the one that follows.

    Args:
        train_inputs: floating point, normalised, of shape (N, ...); or token indices, int64, of shape (N, T).
        train_labels: class indices, int64: one an example, shape (N,), or one a token, shape (N, T).
        test_inputs: as ``train_inputs``. Shape (M, ...).
        test_labels: as ``train_labels``. Shape (M,).
        validation_inputs: as ``train_inputs``, to tune settings by. Shape (V, ...). None: see `held_out`.
        validation_labels: as ``train_labels``. Shape (V,). None exactly where ``validation_inputs`` is.
        weights: of an earlier training, with which this one starts: name in the network → parameter or buffer. None
            starts from the network's own initial weights.

    Raises:
        DatasetError: the tensors do not fit each other.
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    validation_inputs: Tensor | None = None
    validation_labels: Tensor | None = None
    weights: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        _check_split("train", self.train_inputs, self.train_labels)
        self._check_held_out("test", self.test_inputs, self.test_labels)
        if self.validation_inputs is not None and self.validation_labels is not None:
            self._check_held_out("validation", self.validation_inputs, self.validation_labels)
        elif self.validation_inputs is not self.validation_labels:
            raise DatasetError(
                "classification data: expected validation_inputs and validation_labels, or neither; got one of the two"
            )

    def _check_held_out(self, split: str, inputs: Tensor, labels: Tensor) -> None:
        _check_split(split, inputs, labels)
        if self.train_inputs.shape[1:] != inputs.shape[1:]:
            raise DatasetError(
                f"classification data: expected training and {split} inputs of one shape; got "
                f"{tuple(self.train_inputs.shape[1:])} and {tuple(inputs.shape[1:])} an example"
            )

    def held_out(self, split: HeldOut) -> tuple[Tensor, Tensor]:
        """What a network is not trained on, in two parts without a common example.

        Without validation data of its own, the first half of the test examples validates and the second half tests.

        Args:
            split: ``"validation"`` to tune settings by, ``"test"`` to judge by.

        Returns:
            Inputs and labels, of shapes (V, ...) and (V,), or (M, ...) and (M,).

        Raises:
            DatasetError: there is a single test example, which can't do both.

        Example:
            >>> x, y = torch.arange(6.0).view(6, 1), torch.arange(6)
            >>> data = ClassificationData(train_inputs=x, train_labels=y, test_inputs=x, test_labels=y)
            >>> data.held_out("validation")[1], data.held_out("test")[1]
            (tensor([0, 1, 2]), tensor([3, 4, 5]))
        """
        if self.validation_inputs is not None and self.validation_labels is not None:
            validation = self.validation_inputs, self.validation_labels
            return validation if split == "validation" else (self.test_inputs, self.test_labels)
        half = len(self.test_labels) // 2
        if half == 0:
            raise DatasetError(
                "classification data: expected validation data, or at least 2 test examples to be split into "
                "validation and test data; got 1"
            )
        part = slice(half) if split == "validation" else slice(half, None)
        return self.test_inputs[part], self.test_labels[part]

    def to(self, device: torch.device | str) -> ClassificationData:
        """The same data on another device.

        Args:
            device: where the tensors shall lie.

        Returns:
            The data there; tensors that already lie there are shared, not copied.
        """
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        weights = self.weights and {name: weight.to(device) for name, weight in self.weights.items()}
        return ClassificationData(**moved, weights=weights)


def _check_split(split: str, inputs: Tensor, labels: Tensor) -> None:
    if inputs.dtype == torch.int64:
        _check_tokens(split, inputs, labels)
        return
    if not inputs.is_floating_point():
        raise DatasetError(
            f"classification data: {split}_inputs must be floating point, or int64 for tokens; got {inputs.dtype}. "
            "Normalise the inputs before building the data set"
        )
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise DatasetError(
            f"classification data: {split}_labels must be int64 of shape (examples,); "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if inputs.ndim < 2 or len(inputs) != len(labels) or len(labels) == 0:
        raise DatasetError(
            f"classification data: {split}_inputs must have shape (examples, ...) with one label for each "
            f"of at least one example; got inputs {tuple(inputs.shape)} and {len(labels)} labels"
        )


def _check_tokens(split: str, inputs: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64 or labels.shape != inputs.shape or inputs.ndim != 2 or labels.numel() == 0:
        raise DatasetError(
            f"classification data: {split}_inputs are tokens and must have shape (examples, tokens), with int64 labels "
            f"of the same shape, and at least one example; got inputs {tuple(inputs.shape)} and {labels.dtype} "
            f"labels {tuple(labels.shape)}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A network, its data, the baseline's settings and the score to reach.

    The baseline is AdamW with a constant learning rate. Whatever depends on this being classification is in
    `loss` and `evaluate`; the training loop uses nothing else.

    Args:
        name: unique over all plugins; what ``ninokit compare task=NAME`` asks for.
        description: one line for ``ninokit tasks``.
        build_model: makes a new network, initialised from torch's global random state.
        load_data: reads or makes the data; its argument is the folder of the data sets, or None.
        batch_size: examples a training step, at least 1.
        lr: learning rate, above 0.
        weight_decay: AdamW's decoupled weight decay, at least 0.
        metric: what the score is, and whether higher or lower is better.
        total_steps: optimizer steps of a run, at least 1.
        eval_every: steps between two evaluations, at least 1.
        target: score to reach, above 0 and within the metric's range.
        period: optimizer steps between two nowcasts, at least 1.
        needs_data_root: whether ``load_data`` reads files from the folder of the data sets.
        held_out: whether it is kept for judging nowcasters; ``ninokit collect`` refuses it unless told otherwise.
        example_inputs: makes what the network is called with, for `ninokit.encode`; None where it is not needed.

    Raises:
        ConfigError: a number is out of its range.

    Example:
        >>> task = Task(
        ...     name="halves",
        ...     description="Which of two numbers is larger?",
        ...     build_model=lambda: nn.Linear(2, 2),
        ...     load_data=lambda root: ClassificationData(
        ...         train_inputs=torch.eye(2),
        ...         train_labels=torch.arange(2),
        ...         test_inputs=torch.eye(2),
        ...         test_labels=torch.arange(2),
        ...     ),
        ...     batch_size=2, lr=0.1, total_steps=100, eval_every=10, target=1.0, period=20,
        ... )
        >>> task.evaluate(nn.Identity(), task.load_data(None))
        1.0
    """

    name: str
    description: str
    build_model: Callable[[], nn.Module]
    load_data: Callable[[Path | None], ClassificationData]
    batch_size: int
    lr: float
    total_steps: int
    eval_every: int
    target: float
    period: int
    weight_decay: float = 0.0
    metric: Metric = ACCURACY
    needs_data_root: bool = False
    held_out: bool = False
    example_inputs: Callable[[], Tensor | None] = lambda: None

    def __post_init__(self) -> None:
        for setting in ("batch_size", "total_steps", "eval_every", "period"):
            value = getattr(self, setting)
            self._check(setting, value, isinstance(value, int) and value >= 1, "a whole number, at least 1")
        self._check("lr", self.lr, math.isfinite(self.lr) and self.lr > 0, "a number above 0")
        decay = self.weight_decay
        self._check("weight_decay", decay, math.isfinite(decay) and decay >= 0, "a number, at least 0")
        self._check("target", self.target, self.metric.allows(self.target), self.metric.targets)

    def _check(self, setting: str, value: object, valid: bool, expected: str) -> None:
        if not valid:
            raise ConfigError(f"task {self.name!r}: {setting} must be {expected}; got {value!r}")

    def build_from(self, data: ClassificationData) -> nn.Module:
        """A new network with the weights from which its training starts.

        Args:
            data: the task's data, on any device; its ``weights`` are copied into the network where it has some.

        Returns:
            The network of ``build_model``; what ``weights`` does not name, such as adapters or a new head, is as
            ``build_model`` made it.

        Raises:
            DatasetError: the network lacks one of the names, or has another shape there.
        """
        model = self.build_model()
        if data.weights is not None:
            self._check_weights(model.state_dict(), data.weights)
            model.load_state_dict(data.weights, strict=False)
        return model

    def _check_weights(self, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            if name in own and own[name].shape == weight.shape:
                continue
            expected = f"shape {tuple(own[name].shape)}" if name in own else f"one of its names, such as {min(own)!r}"
            raise DatasetError(
                f"task {self.name!r}: the weight {name!r} of shape {tuple(weight.shape)}, to start from, does not fit "
                f"the network; expected {expected}. Let load_data give weights of the network that build_model makes"
            )

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The baseline's optimizer.

        Args:
            model: the network to train, already on its device.

        Returns:
            AdamW over all its parameters.
        """
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """The training loss of one batch.

        Args:
            model: the network, in training mode.
            inputs: shape (B, ...).
            labels: class indices of shape (B,) or (B, T).

        Returns:
            The mean cross entropy in nats, a scalar with gradient.
        """
        return mean_cross_entropy(model(inputs), labels)

    def evaluate(self, model: nn.Module, data: ClassificationData) -> float:
        """The network's score on the test data: what ``target`` is about.

        Args:
            model: the network; it is left in the mode (training or evaluation) it came in.
            data: the task's data, on the network's device.

        Returns:
            The metric's mean over the test labels.
        """
        return _mean(self.metric, model, data.test_inputs, data.test_labels)

    def held_out_loss(self, model: nn.Module, data: ClassificationData, split: HeldOut = "validation") -> float:
        """The mean of the training's loss over data that the network is not trained on.

        Args:
            model: the network; it is left in the mode (training or evaluation) it came in.
            data: the task's data, on the network's device.
            split: ``"validation"`` to tune settings by, ``"test"`` to judge by.

        Returns:
            The mean cross entropy in nats a label.

        Raises:
            DatasetError: see `ClassificationData.held_out`.
        """
        return _mean(VALIDATION_LOSS, model, *data.held_out(split))


@torch.inference_mode()
def _mean(metric: Metric, model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """A metric's mean over the labels of some examples."""
    batches = zip(inputs.split(_TEST_BATCH), labels.split(_TEST_BATCH), strict=True)
    with _evaluating(model):
        total = sum(metric.total(model(some), classes) for some, classes in batches)
    return float(total) / labels.numel()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards the mode is as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
