"""The task: its picture, and that it can be learnt."""

from __future__ import annotations

import torch

from ninokit.benchmarks.tasks.finding import find_task
from ninokit_siren.task import part_at


def test_parts_by_hand():
    # Along the x axis a petal reaches to 0.85; between two petals, at 36 degrees, to 0.35.
    points = torch.tensor([[0.0, 0.0], [0.24, 0.0], [0.26, 0.0], [0.84, 0.0], [0.86, 0.0], [-0.34, 0.0], [-0.36, 0.0]])
    assert part_at(points).tolist() == [2, 2, 1, 1, 0, 1, 0]


def test_data_is_the_same_each_time():
    task = find_task("siren_petals")
    first, second = task.load_data(None), task.load_data(None)
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert torch.equal(first.test_labels, second.test_labels)
    assert (len(first.train_inputs), len(first.test_inputs)) == (64 * 64, 63 * 63)
    apart = torch.cdist(first.train_inputs, first.test_inputs).min()
    assert apart > 0.02  # half a diagonal of a cell


def test_training_learns():
    torch.manual_seed(0)
    task = find_task("siren_petals")
    data, model = task.load_data(None), task.build_model()
    optimizer = task.build_optimizer(model)
    before = task.evaluate(model, data)
    for _ in range(100):
        batch = torch.randint(len(data.train_inputs), (task.batch_size,))
        optimizer.zero_grad()
        task.loss(model, data.train_inputs[batch], data.train_labels[batch]).backward()
        optimizer.step()
    most_frequent = (data.test_labels == 0).float().mean()
    assert before < task.evaluate(model, data) > most_frequent + 0.15
