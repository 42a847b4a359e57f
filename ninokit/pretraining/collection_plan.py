"""Which networks a collection trains, and with which hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np
import torch

from ninokit.benchmarks.task import Task
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.errors import ConfigError
from ninokit.pretraining.cohort import Cohort, CohortDescription
from ninokit.pretraining.collect_config import CollectConfig
from ninokit.pretraining.stacked_training import initial_network
from ninokit.pretraining.store import TrajectoryStore

__all__ = ["collectable_task", "plan_cohorts"]

_STACK = {"cpu": 16, "cuda": 256}
_STATES_A_PERIOD = 10  # twice as dense as a nowcaster's context, so that learning may choose the spacing


def collectable_task(name: str, config: CollectConfig) -> Task:
    """A registered task that may be learnt from.

    Args:
        name: the task's.
        config: the settings.

    Returns:
        The task.

    Raises:
        ConfigError: there is none of that name, or it is kept for judging.
    """
    task = find_task(name)
    if task.held_out and not config.held_out:
        raise ConfigError(
            f"task {name!r} is kept for judging nowcasters, and none must learn from it. Collect other tasks, or, for "
            "trajectories that no nowcaster learns from, set held_out=true"
        )
    return task


def plan_cohorts(store: TrajectoryStore, task: Task, config: CollectConfig) -> list[Cohort]:
    """The cohorts of a task's networks that are not complete: those that were left half done, then new ones.

    Args:
        store: where they are; the new ones are added, and those without a state, of any settings, are removed first.
        task: which task.
        config: the settings.

    Returns:
        The cohorts to train, in order.

    Raises:
        ConfigError: the store has networks of these seeds that were trained with other settings.
    """
    seeds = range(config.first_seed, config.first_seed + config.networks)
    known = []
    for cohort in store.cohorts():
        if cohort.description.task != task.name:
            continue
        if cohort.recorded == 0:
            store.remove(cohort.description)
        elif set(cohort.description.seeds) & set(seeds):
            known.append(cohort)
    for cohort in known:
        _check_settings(cohort.description, _describe(task, config, cohort.description.seeds), store)
    taken = {seed for cohort in known for seed in cohort.description.seeds}
    missing = [seed for seed in seeds if seed not in taken]
    size = config.stack or _STACK[torch.device(config.device).type]
    added = [
        store.add(_describe(task, config, missing[start : start + size])) for start in range(0, len(missing), size)
    ]
    return [cohort for cohort in known if not cohort.complete] + added


def _describe(task: Task, config: CollectConfig, seeds: Sequence[int]) -> CohortDescription:
    every = config.every or max(1, task.period // _STATES_A_PERIOD)
    steps = config.steps or task.total_steps
    if steps < every:
        raise ConfigError(f"task {task.name!r}: steps must be at least every, which is {every}; got {steps}")
    parameters = initial_network(task, 0).named_parameters()
    return CohortDescription(
        task=task.name,
        seeds=tuple(seeds),
        hyperparameters=tuple(_draw_hyperparameters(task, config, seed) for seed in seeds),
        parameters=tuple((name, tuple(parameter.shape)) for name, parameter in parameters),
        every=every,
        num_states=steps // every + 1,
        dtype=config.dtype,
        autocast=config.autocast,
    )


def _draw_hyperparameters(task: Task, config: CollectConfig, seed: int) -> dict[str, float]:
    """Of one network, from its seed alone."""
    generator = np.random.default_rng(seed)
    low, high = config.lr_range
    factor = math.exp(generator.uniform(math.log(low), math.log(high)))
    decays = [task.weight_decay] if config.weight_decays is None else config.weight_decays
    return {"lr": task.lr * factor, "weight_decay": float(generator.choice(decays))}


def _check_settings(found: CohortDescription, asked: CohortDescription, store: TrajectoryStore) -> None:
    stored, wanted = asdict(found), asdict(asked)
    differing = [field.name for field in fields(found) if stored[field.name] != wanted[field.name]]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{store.path}: task {found.task!r} has networks of the seeds {min(found.seeds)} to {max(found.seeds)} "
            f"already, of other {name}: {stored[name]}, not {wanted[name]}. Use the same settings, another first_seed, "
            f"or another out; or remove {store.folder(found)}"
        )
