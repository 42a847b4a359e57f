"""Every task that is collected can be stacked."""

from __future__ import annotations

import pytest
import torch

from ninokit.builtin.tasks import ninokit_tasks
from ninokit.pretraining.network_stack import LOOPED, STACKED, NetworkStack

pytest.importorskip("transformers")
pytest.importorskip("torchvision")

TASKS = {task.name: task for task in ninokit_tasks() if not task.held_out}
INPUTS = {"mnist1d": (40,), "digits": (64,), "fm16": (1, 28, 28), "fashion": (1, 28, 28)}


def _batch(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """For two networks, three examples each."""
    if "gpt2" in name:
        return torch.randint(65, (2, 3, 64)), torch.randint(65, (2, 3, 64))
    example = TASKS[name].example_inputs()
    shape = INPUTS[name.partition("_")[0]] if example is None else example.shape[1:]
    if name in {"mnist1d_cnn", "mnist1d_fresh_cnn"}:
        shape = (1, 40)
    return torch.randn(2, 3, *shape, dtype=torch.float64), torch.randint(10, (2, 3))


@pytest.mark.parametrize("name", TASKS)
def test_stacked_gradients_are_those_of_one_after_the_other(name):
    task = TASKS[name]
    networks = [task.build_model().double() for _ in range(2)]
    batch = _batch(name)
    stacked, looped = (
        NetworkStack(networks, task.loss, execution).losses_and_gradients(*batch) for execution in (STACKED, LOOPED)
    )
    torch.testing.assert_close(stacked[0], looped[0], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(stacked[1], looped[1], rtol=1e-7, atol=1e-10)
