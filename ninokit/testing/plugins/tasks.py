"""Checks of a benchmark task."""

from __future__ import annotations

from collections.abc import Iterator

import torch

import ninokit
from ninokit.benchmarks.task import Task
from ninokit.testing.plugins.findings import Check, CheckError, NotApplicableError

__all__ = ["task_checks"]


def task_checks(task: Task) -> Iterator[Check]:
    """Checks of a task.

    Args:
        task: the task.

    Yields:
        The checks.
    """
    yield Check(f"task {task.name}: network", lambda: _check_network(task))
    yield Check(f"task {task.name}: training", lambda: _check_training(task))


def _check_network(task: Task) -> str:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(task.build_model().state_dict())
    first, second = states
    differ = [name for name in first if name not in second or not torch.equal(first[name], second[name])]
    if differ or first.keys() != second.keys():
        raise CheckError(
            f"two networks of one seed differ ({', '.join(differ) or 'in their names'}); draw from torch's global "
            f"random state alone"
        )
    return f"{sum(tensor.numel() for tensor in first.values()):,} numbers, the same for the same seed"


def _check_training(task: Task) -> str:
    if task.needs_data_root:
        raise NotApplicableError("its data lie in files")
    data = task.load_data(None)
    torch.manual_seed(0)
    model = task.build_model()
    inputs, labels = data.train_inputs[: task.batch_size], data.train_labels[: task.batch_size]
    ninokit.encode(model, inputs)
    loss = task.loss(model, inputs, labels)
    loss.backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if not torch.isfinite(loss) or silent:
        raise CheckError(f"expected a finite loss that depends on all parameters, got {loss.item()}, not on {silent}")
    score = task.evaluate(model, data)
    if not 0 <= score <= task.metric.largest:
        raise CheckError(f"{task.metric.name}: expected 0 to {task.metric.largest}, got {score}")
    return f"encoded; loss {loss.item():.3g}, {task.metric.name} {score:.3g} before training"
