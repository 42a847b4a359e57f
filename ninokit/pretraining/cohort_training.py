"""The training of one cohort into its store, from where it stands.

Shapes: N networks, K states in a chunk, P parameters of a network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.errors import StoreError
from ninokit.pretraining.cohort import Cohort
from ninokit.pretraining.stacked_training import StackedTraining

__all__ = ["CHECKPOINT", "train_cohort"]

_log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


def train_cohort(
    cohort: Cohort,
    checkpoint: Path,
    task: Task,
    data: ClassificationData,
    *,
    execution: str,
    autocast: bool,
    progress: Callable[[int], object],
) -> None:
    """Train the networks of a cohort to their end, chunk by chunk, and mark it as complete.

    A cohort that was left half done goes on from its last chunk, bit for bit as if it had never stopped. torch's
    global random state is as before when this returns.

    Args:
        cohort: where the states go.
        checkpoint: file of what the way on depends on; removed at the end.
        task: the cohort's task.
        data: its data, on the device to train on.
        execution: ``"stacked"`` or ``"looped"``.
        autocast: compute in bfloat16 where that is safe.
        progress: called with the number of states that were written of each network, after every chunk.

    Raises:
        ConfigError: the network cannot be trained this way.
        StoreError: the checkpoint is damaged.
    """
    about = cohort.description
    device = data.train_inputs.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(about.seeds[0])
        training = StackedTraining(
            task,
            data,
            seeds=about.seeds,
            hyperparameters=about.hyperparameters,
            execution=execution,
            autocast=autocast,
        )
        start = _resume(training, checkpoint) if checkpoint.exists() else 0
        progress(start)
        while start < about.num_states:
            stop = min(start + about.chunk_states, about.num_states)
            cohort.write(start, *_chunk(training, start, stop, about.every))
            _save(training, stop, checkpoint)
            progress(stop - start)
            start = stop
        cohort.finish(_scores(training, cohort))
    checkpoint.unlink(missing_ok=True)


def _chunk(training: StackedTraining, start: int, stop: int, every: int) -> tuple[Tensor, Tensor]:
    """The states from one to another, shape (N, K, P), and the mean losses since the state before, shape (N, K)."""
    networks, parameters = training.parameters.shape
    states = torch.empty(networks, stop - start, parameters)
    losses = torch.empty(networks, stop - start)
    for column, state in enumerate(range(start, stop)):
        taken = training.initial_losses() if state == 0 else sum(training.step() for _ in range(every)) / every
        losses[:, column] = taken
        states[:, column] = training.parameters
    return states, losses


def _scores(training: StackedTraining, cohort: Cohort) -> list[float | None]:
    about = cohort.description
    whole = [length == about.num_states for length in cohort.lengths]
    diverged = [seed for seed, finite in zip(about.seeds, whole, strict=True) if not finite]
    if diverged:
        _log.warning(
            "task %r: the networks of the seeds %s diverged; their trajectories end before", about.task, diverged
        )
    return [training.score(row) if finite else None for row, finite in enumerate(whole)]


def _save(training: StackedTraining, states: int, path: Path) -> None:
    """Replace the checkpoint, so that a crash leaves the old one or the new one."""
    device = training.parameters.device
    content = {
        "training": training.state_dict(),
        "states": states,
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def _resume(training: StackedTraining, path: Path) -> int:
    """Go on from a checkpoint; returns the number of states that were written before it."""
    device = training.parameters.device
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file gives one of many
        raise StoreError(
            f"{path}: is no checkpoint of a collection ({type(error).__name__}); remove it, and its networks are "
            "trained from their start"
        ) from error
    training.load_state_dict(content["training"])
    torch.set_rng_state(content["random"])
    if content["cuda_random"] is not None:
        torch.cuda.set_rng_state(content["cuda_random"], device)
    return int(content["states"])
