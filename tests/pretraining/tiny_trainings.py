"""Tiny networks and made-up trajectories of theirs, in a real store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from ninokit.pretraining import TrajectoryStore
from ninokit.pretraining.cohort import CohortDescription

MODELS = {
    "deep": lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)),
    "convolutional": lambda: nn.Sequential(
        nn.Conv1d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)
    ),
}

EVERY = 5  # optimizer steps from state to state


def find_tiny_task(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, build_model=MODELS[name], example_inputs=lambda: None, held_out=False)


def curves(networks: int, states: int, size: int) -> torch.Tensor:
    """Weights that settle, each at its own pace, shape (networks, states, size)."""
    generator = torch.Generator().manual_seed(size)
    start, change, pace = (torch.randn(networks, 1, size, generator=generator) for _ in range(3))
    return start + change * (1 - torch.exp(-torch.arange(states)[:, None] * 0.02 * pace.exp()))


def make_store(path: Path, networks: Mapping[str, int], states: int = 60) -> TrajectoryStore:
    """A store with so many networks of each task."""
    store = TrajectoryStore.create(path)
    for task, count in networks.items():
        parameters = tuple((name, tuple(p.shape)) for name, p in MODELS[task]().named_parameters())
        about = CohortDescription(
            task=task,
            seeds=tuple(range(count)),
            hyperparameters=({"lr": 0.01},) * count,
            parameters=parameters,
            every=EVERY,
            num_states=states,
        )
        cohort, whole = store.add(about), curves(count, states, about.num_parameters)
        for start in range(0, states, about.chunk_states):
            chunk = whole[:, start : start + about.chunk_states].contiguous()
            cohort.write(start, chunk, torch.zeros(chunk.shape[:2]))
    return TrajectoryStore.open(path)
