"""From a store of trajectories to an entry of the zoo: ``ninokit pretrain``."""

from __future__ import annotations

import logging
import math
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ninokit._optional import require
from ninokit.benchmarks.device import check_device, torch_threads
from ninokit.benchmarks.report import describe_environment, describe_hardware
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.errors import ConfigError
from ninokit.graph.structure import POSITION_DIM
from ninokit.pretraining.checkpoint import load_checkpoint, save_checkpoint
from ninokit.pretraining.curves import Point, write_curves
from ninokit.pretraining.forms import FORMS
from ninokit.pretraining.meta_training import MetaTraining, build_nowcaster
from ninokit.pretraining.pretrain_config import PretrainConfig
from ninokit.pretraining.slices import Slices, SliceSampler, encode_tasks, long_enough
from ninokit.pretraining.store import TrajectoryStore
from ninokit.pretraining.trajectory import Trajectory
from ninokit.pretraining.validation import TRAINED, Split, Validation, split_trajectories
from ninokit.zoo import Card, TrainingRun, TrainingTask, write_entry
from ninokit.zoo.card import parse_card

__all__ = ["pretrain"]

_log = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.pt"


def pretrain(config: PretrainConfig, recipe: Path | None = None) -> Path:
    """Meta-train a nowcaster on stored trajectories, and write it as an entry of the zoo.

    In the folder ``config.out`` a checkpoint, ``curves.csv``, ``horizons.csv`` and ``curves.png`` are replaced at
    every validation. The same call goes on from the checkpoint, on the CPU bit for bit as if it had not stopped.

    Args:
        config: the settings.
        recipe: the file that they come from, for the card.

    Returns:
        The folder of the entry.

    Raises:
        ConfigError: if settings do not fit each other, the trajectories, or the checkpoint that is there, or if it
            would learn from a task that is kept for judging.
        StoreError: if there is no store of trajectories.
        ZooError: if the entry's name is none.
        DependencyError: if an optional package is missing.

    Example:
        >>> from ninokit.pretraining.pretrain_config import PretrainConfig
        >>> pretrain(PretrainConfig(trajectories="runs/trajectories", steps=2000))  # doctest: +SKIP
    """
    # Asked before hours of training, not after them.
    require("matplotlib.figure", "the picture of a meta-training")
    check_device(config.device)
    _check_form(config)
    with torch_threads(config.threads):
        stored = TrajectoryStore.open(config.trajectories).trajectories
        usable = long_enough(stored, config.context, _spacing(config))
        split = split_trajectories(usable, config.validation_tasks, config.validation_share)
        _check_tasks(split)
        card = _card(config, split, recipe)
        folder = Path(config.out)
        folder.mkdir(parents=True, exist_ok=True)
        training, points = MetaTraining(config), list[Point]()
        if (folder / _CHECKPOINT).exists():
            points += load_checkpoint(folder / _CHECKPOINT, config, split, training)
            _log.info("going on after step %d of %s", training.step, folder / _CHECKPOINT)
        _train(config, split, training, points, folder)
        return _write(config, card, training, points, folder)


def _spacing(config: PretrainConfig) -> tuple[int, int]:
    least, most = config.spacing
    return least, most


def _check_form(config: PretrainConfig) -> None:
    if config.form not in FORMS[config.family]:
        raise ConfigError(f"form: {config.family} has the forms {list(FORMS[config.family])}; got {config.form!r}")
    if config.form == "dgl" and config.device != "cpu":
        raise ConfigError(f"form: dgl computes on the CPU; got device={config.device}. Set form=blocks")
    if config.weights_per_slice is not None and config.family != "wnn":
        raise ConfigError(
            f"weights_per_slice: only wnn looks at single weights; got {config.weights_per_slice} for {config.family}. "
            "Leave it out"
        )
    if config.precision != "float32" and (config.family, config.form) != ("nino", "blocks"):
        raise ConfigError(
            f"precision: only nino in form=blocks has a choice; got {config.precision} for {config.family} in "
            f"form={config.form}. Set precision=float32"
        )


def _check_tasks(split: Split) -> None:
    for task in sorted({trajectory.task for trajectory in split.training}):
        if find_task(task).held_out:
            raise ConfigError(
                f"task {task!r} is kept for judging nowcasters, and none must learn from it. "
                f"Put it among the validation_tasks, or take another store"
            )


def _train(config: PretrainConfig, split: Split, training: MetaTraining, points: list[Point], folder: Path) -> None:
    """Do the steps that are left, with a validation every so often."""
    if training.step == config.steps:
        return
    graphs = encode_tasks([*split.training, *(t for part in split.held_out.values() for t in part)])

    def sampler(trajectories: Sequence[Trajectory], device: str = "cpu") -> SliceSampler:
        return SliceSampler(
            trajectories,
            graphs,
            context=config.context,
            horizon=config.max_horizon,
            spacing=_spacing(config),
            memory=int(config.memory_gib * 2**30),
            device=device,
        )

    validation = Validation(
        {name: sampler(part) for name, part in split.held_out.items()},
        config.context,
        np.random.default_rng([config.seed, config.steps]),
        config.edges_per_task,
    )
    start = time.perf_counter() - (points[-1].seconds if points else 0)
    losses: list[float] = []
    batches = _batches(sampler(split.training, config.device), config, training.step)
    # disable=None: no bar where the output is not a terminal.
    for batch in tqdm(batches, "meta-training", config.steps, initial=training.step, unit="step", disable=None):
        losses.append(training.train_step(batch, np.random.default_rng([config.seed, training.step, 1])))
        if training.step % config.validate_every == 0 or training.step == config.steps:
            finite = [loss for loss in losses if math.isfinite(loss)]
            points.append(
                Point(
                    training.step,
                    time.perf_counter() - start,
                    training.learning_rate,
                    float(np.mean(finite)) if finite else math.nan,
                    training.skipped,
                    validation.measure(training.errors),
                )
            )
            losses.clear()
            _report(points[-1])
            save_checkpoint(folder / _CHECKPOINT, config, split, training, points)
            write_curves(points, folder)


def _batches(sampler: SliceSampler, config: PretrainConfig, first: int) -> Iterator[list[Slices]]:
    """The batches from a step on. Each depends on its step alone, and is drawn while the one before is learnt from."""

    def draw(step: int) -> list[Slices]:
        generator = np.random.default_rng([config.seed, step, 0])
        return sampler.draw(generator, config.tasks_per_step, config.slices_per_task, config.edges_per_task)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(draw, first)
        for step in range(first + 1, config.steps + 1):
            batch = waiting.result()
            if step < config.steps:
                waiting = pool.submit(draw, step)
            yield batch


def _report(point: Point) -> None:
    """Say whether the nowcaster is of use yet."""
    for part, methods in point.scores.items():
        floors = {method: scores.mean for method, scores in methods.items() if method != TRAINED}
        _log.info(
            "step %d: L1 %.4f on %s (%s)",
            point.step, methods[TRAINED].mean, part, ", ".join(f"{name} {mean:.4f}" for name, mean in floors.items()),
        )  # fmt: skip
    for failure in _failures(point):
        _log.warning("step %d: %s", point.step, failure)


def _failures(point: Point) -> list[str]:
    """Which forecasts without training the nowcaster does not beat."""
    return [
        f"on {part} the L1 distance, {methods[TRAINED].mean:.4f}, is not below that of {method}, {scores.mean:.4f}"
        for part, methods in point.scores.items()
        for method, scores in methods.items()
        if method != TRAINED and not methods[TRAINED].mean < scores.mean
    ]


def _card(config: PretrainConfig, split: Split, recipe: Path | None) -> Card:
    """What is known before the training; made then, so that a wrong name is found."""
    environment = describe_environment(config.device)
    networks = Counter(trajectory.task for trajectory in split.training)
    steps = {trajectory.task: int(trajectory.steps[-1]) for trajectory in split.training}
    content = {
        "name": config.entry_name,
        "description": f"{config.family} of width {config.hidden}, meta-trained on {', '.join(sorted(networks))}",
        "family": config.family,
        "arguments": {"hidden": config.hidden, "context": config.context, "max_horizon": config.max_horizon},
        "context": config.context,
        "period": config.context * sum(config.spacing) // 2,
        "max_horizon": config.max_horizon,
        "positions": POSITION_DIM if config.family == "nino" else None,
        "licence": "MIT",
        "trained_on": [
            TrainingTask(task=task, trajectories=networks[task], steps=steps[task]) for task in sorted(networks)
        ],
        "training": TrainingRun(
            code="ninokit",
            commit=environment["commit"],
            command=_command(config),
            recipe=str(recipe) if recipe is not None else None,
            config=asdict(config),
            hardware=describe_hardware(environment),
        ),
    }
    return parse_card(content, f"the entry {config.entry_name!r}")


def _command(config: PretrainConfig) -> str:
    """The command line that asks for these settings."""
    usual, chosen = asdict(PretrainConfig()), asdict(config)
    pairs = [f"{name}={_spelled(value)}" for name, value in chosen.items() if value != usual[name]]
    return shlex.join(["ninokit", "pretrain", *pairs])


def _spelled(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _write(config: PretrainConfig, card: Card, training: MetaTraining, points: Sequence[Point], folder: Path) -> Path:
    entry = folder / card.name
    if entry.exists():
        _log.info("%s is there already", entry)
        return entry
    nowcaster = build_nowcaster(config)
    nowcaster.load_state_dict(training.averaged.state_dict())
    run = card.training.model_copy(update={"seconds": points[-1].seconds})
    write_entry(entry, nowcaster, card.model_copy(update={"training": run, "known_failures": _failures(points[-1])}))
    return entry
