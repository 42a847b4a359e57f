"""Measure what arms save, task by task and seed by seed, against rivals that are tuned with the same care."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ninokit._optional import require
from ninokit.benchmarks.arms import Arm, find_arm
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.device import check_device, torch_threads
from ninokit.benchmarks.evaluation.plot import plot_savings, plot_task
from ninokit.benchmarks.evaluation.report import format_evaluation
from ninokit.benchmarks.evaluation.results import REFERENCE, Evaluation
from ninokit.benchmarks.evaluation.settings import CompareConfig, EvaluateConfig
from ninokit.benchmarks.evaluation.store import RunStore
from ninokit.benchmarks.evaluation.study import Study, suited_arms
from ninokit.benchmarks.evaluation.timing import timed
from ninokit.benchmarks.evaluation.training_pool import training_pool
from ninokit.benchmarks.report import write_text
from ninokit.benchmarks.task import Task
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.errors import ConfigError
from ninokit.plugins import registry
from ninokit.zoo import Entry, TaskSaving
from ninokit.zoo.card import CARD_FILE, add_savings
from ninokit.zoo.sources import is_remote, is_source, resolve

__all__ = ["compare", "evaluate"]

_log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Tune every arm on every task alike, then compare them on seeds that nobody tuned on.

    Finished runs are kept in ``config.store``; the same call, or one with more tasks, seeds or arms, trains only what
    is not there. After every task the files in ``config.out`` are replaced: ``evaluation.json``, ``evaluation.md``,
    ``savings.png`` and a picture of the task's curves. At the end, ``config.write_cards`` adds rows to cards.

    Args:
        config: the settings.

    Returns:
        What was found.

    Raises:
        ConfigError: a setting does not fit, or a run of other settings is there.
        CheckpointError: a nowcaster can't be loaded.
        DatasetError: a task's data is not there.
        ArchitectureError: a nowcaster needs a neural graph, and no architecture encodes a task's network.
        DependencyError: an optional package is missing.

    Example:
        >>> config = EvaluateConfig(tasks=["digits_mlp"], arms=["adamw", "linefit"], seeds=[0], out="runs/digits")
        >>> evaluate(config).tasks[0].saved("linefit", "adamw").share  # doctest: +SKIP
    """
    both = sorted(set(config.seeds) & set(config.tuning_seeds))
    if both:
        raise ConfigError(
            f"tuning_seeds: must be none of seeds, or settings are chosen on what they are judged by; got {both} in "
            "both"
        )
    evaluation = _evaluate(config, [find_task(name) for name in config.tasks], config.tuning_seeds, config.lr_factors)
    if config.write_cards:
        for entry in filter(None, map(_entry, config.arms)):
            _write_card(entry, evaluation)
    return evaluation


def compare(config: CompareConfig) -> Evaluation:
    """Compare arms on one task at its own rate and at their own defaults; nothing is tuned.

    Args:
        config: the settings.

    Returns:
        What was found, of one task; the files are those of `evaluate`.

    Raises:
        NinokitError: see `evaluate`.

    Example:
        >>> compare(CompareConfig(task="digits_mlp", seeds=[0])).tasks[0].seeds  # doctest: +SKIP
        (0,)
    """
    names = ("lr", "period", "total_steps")
    changes = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    return _evaluate(config, [replace(find_task(config.task), **changes)], (), ())


def _evaluate(
    config: EvaluateConfig | CompareConfig,
    tasks: Sequence[Task],
    tuning_seeds: Sequence[int],
    lr_factors: Sequence[float],
) -> Evaluation:
    require("matplotlib.figure", "the pictures of an evaluation")  # asked before hours of training, not after them
    check_device(config.device)
    sources, arms = _arms(config.arms)
    studies = []
    for task in tasks:
        suited, unsuited = suited_arms(task, list(arms.values()), config.data_root)
        studies.append(Study(task, suited, unsuited, config.seeds, tuning_seeds, lr_factors, config.device))
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(asdict(config), ())
    with training_pool(RunStore(config.store), sources, config.data_root, config.workers, config.threads) as pool:
        for study in studies:
            result = study.finish(pool)
            if config.seconds:
                data = kept_data(study.task.name, config.data_root, config.device)
                with torch_threads(config.threads):
                    result = timed(result, study.task, arms, data, config.device)
            evaluation = replace(evaluation, tasks=(*evaluation.tasks, result))
            evaluation.write(folder / "evaluation.json")
            write_text(folder / "evaluation.md", format_evaluation(evaluation))
            plot_savings(evaluation, folder / "savings.png")
            plot_task(result, folder / f"{result.task}.png")
            _log.info("%s is finished; see %s", result.task, folder)
    return evaluation


def _arms(asked: Sequence[str]) -> tuple[dict[str, str], dict[str, Arm]]:
    """An arm's name → what it is found by, and the arm; AdamW comes first."""
    sources: dict[str, str] = {}
    arms: dict[str, Arm] = {}
    for source in dict.fromkeys((REFERENCE, *asked)):
        arm = find_arm(source)
        name = arm.name
        if name in sources:
            raise ConfigError(
                f"arms: {sources[name]!r} and {source!r} are both called {name!r}, and the tables could not tell them "
                "apart. Leave one out"
            )
        sources[name], arms[name] = source, arm
    return sources, arms


def _entry(source: str) -> Entry | None:
    """The entry of the nowcaster that is an arm on AdamW; None for another arm, or where here is only a copy."""
    name = source.removeprefix(f"{REFERENCE}+")
    if is_source(name):
        return None if is_remote(name) else resolve(name)
    others = {*registry().arms(), *registry().nowcasters()}
    return None if name.partition("+")[0] in others or name.endswith(".pt") else resolve(name)


def _write_card(entry: Entry, evaluation: Evaluation) -> None:
    card, path = entry.card, entry.folder / CARD_FILE
    try:
        add_savings(path, [TaskSaving.of(task, card) for task in evaluation.tasks])
    except OSError as error:
        _log.warning("%s: can't be written (%s); what was measured is in the evaluation alone", path, error.strerror)
    else:
        _log.info("%s has what was measured", path)
