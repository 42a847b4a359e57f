"""What a bank trains: a model with its optimizer, batches and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.training import batches

__all__ = ["Make", "Training", "cuda_devices", "made", "task_training", "train_step"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A training that has not begun.

    Args:
        model: the network, in training mode, on its device.
        optimizer: of its parameters; its learning rates are constant.
        batches: seed → endless stream of batches; it depends on the seed alone.
        loss: model and batch → the training loss, a scalar with gradient.
        validation_loss: model, in evaluation mode → the loss on data that is in no batch; it leaves the model as it is.
        example_inputs: for `ninokit.encode`, where the nowcaster needs a neural graph and the network has to be run.
    """

    model: nn.Module
    optimizer: Optimizer
    batches: Callable[[int], Iterator[Any]]
    loss: Callable[[nn.Module, Any], Tensor]
    validation_loss: Callable[[nn.Module], float]
    example_inputs: Any = None


Make = Callable[[int], Training]  # from a seed


def task_training(task: Task, data: ClassificationData, seed: int) -> Training:
    """The training of a task, as `Training` has it; with the first two arguments given, it is a ``make``.

    Args:
        task: what to train.
        data: the task's, on the device to train on.
        seed: not read: torch's random state, which the weights depend on, is set by the caller.

    Returns:
        The training, with the loss on the task's validation data.
    """
    model = task.build_from(data).to(data.train_inputs.device)
    return Training(
        model=model,
        optimizer=task.build_optimizer(model),
        batches=lambda stream: batches(data, task.batch_size, stream),
        loss=lambda network, batch: task.loss(network, *batch),
        validation_loss=lambda network: task.held_out_loss(network, data, split="validation"),
        example_inputs=task.example_inputs(),
    )


def made(make: Make, seed: int, rate: float) -> Training:
    """A new training at a multiple of its learning rates; torch's random state goes on from the seed.

    Args:
        make: makes the training.
        seed: of the initial weights.
        rate: the multiple, above 0.

    Returns:
        The training.
    """
    torch.manual_seed(seed)
    training = make(seed)
    for group in training.optimizer.param_groups:
        group["lr"] = group["lr"] * rate
    return training


def train_step(training: Training, batch: Any) -> None:
    """One optimizer step.

    Args:
        training: whose model and optimizer are changed.
        batch: to take the gradient on.
    """
    training.optimizer.zero_grad()
    training.loss(training.model, batch).backward()
    training.optimizer.step()


def cuda_devices(model: nn.Module) -> list[torch.device]:
    """The GPUs that a model is on, for `torch.random.fork_rng`."""
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
