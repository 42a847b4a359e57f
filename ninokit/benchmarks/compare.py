"""Train a task with and without nowcasting and write down what that took."""

from __future__ import annotations

import difflib
import logging
from dataclasses import asdict, replace
from pathlib import Path

from ninokit._optional import require
from ninokit.benchmarks.device import check_device, torch_threads
from ninokit.benchmarks.plot import plot_results
from ninokit.benchmarks.report import (
    Results,
    describe_environment,
    format_summary,
    write_results,
    write_text,
)
from ninokit.benchmarks.task import Task
from ninokit.benchmarks.training import check_attachable, nowcast_with, train
from ninokit.configuration import CompareConfig
from ninokit.errors import ConfigError
from ninokit.nowcasters import load
from ninokit.plugins import registry

_log = logging.getLogger(__name__)

# What a comparison may change of a task.
_OVERRIDES = ("total_steps", "period", "lr", "eval_every", "target")


def compare(config: CompareConfig) -> Results:
    """Run the baseline and the nowcasting run of every seed.

    After every finished run ``results.json``, ``summary.md`` and ``curves.png`` in the folder ``config.out``
    are replaced, so that an interruption loses nothing but the run on its way. So are an earlier comparison's
    files in that folder.

    Args:
        config: the settings, as from `ninokit.configuration.load_config`.

    Returns:
        The runs and their summary.

    Raises:
        ConfigError: there is no such task, or no such device, or the target is none for the task's score.
        DatasetError: the task's data is not there.
        DependencyError: an optional package is missing.
        ArchitectureError: the nowcaster needs a neural graph, and no architecture encodes the task's network.

    Example:
        >>> from ninokit.configuration import CompareConfig
        >>> compare(CompareConfig(task="digits_mlp", seeds=[0], out="runs/digits")).summary  # doctest: +SKIP
    """
    # Asked before hours of training, not after them.
    require("matplotlib.figure", "the picture of a comparison")
    check_device(config.device)
    task = configured_task(config)
    nowcaster = load(config.nowcaster, sha256=config.nowcaster_sha256)
    nowcasting = nowcast_with(nowcaster, task, recalibrate_batchnorm=config.recalibrate_batchnorm)
    check_attachable(task, nowcasting)
    data = task.load_data(Path(config.data_root) if config.data_root is not None else None).to(config.device)
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    with torch_threads(config.threads):
        settings = asdict(config) | {name: getattr(task, name) for name in _OVERRIDES} | _scoring(task)
        results = Results(settings, describe_environment(config.device), ())
        for seed in config.seeds:
            for method in (None, nowcasting):
                record = train(
                    task,
                    data,
                    seed=seed,
                    device=config.device,
                    attach=method,
                    stop_at_target=config.stop_at_target,
                )
                results = replace(results, runs=(*results.runs, record))
                _write(results, folder)
    return results


def _scoring(task: Task) -> dict[str, str]:
    """What a reader of the results must know of the score."""
    return {"metric": task.metric.name, "better": task.metric.better.value}


def configured_task(config: CompareConfig) -> Task:
    """The task that a comparison is about, with what its settings change.

    Args:
        config: the settings.

    Returns:
        The registered task, or a changed copy.

    Raises:
        ConfigError: there is no such task, or the target is none for its score.
    """
    changes = {name: getattr(config, name) for name in _OVERRIDES if getattr(config, name) is not None}
    return replace(find_task(config.task), **changes)


def find_task(name: str) -> Task:
    """A registered task.

    Args:
        name: the task's name.

    Returns:
        The task.

    Raises:
        ConfigError: there is none of that name.
    """
    tasks = registry().tasks()
    if name not in tasks:
        close = difflib.get_close_matches(name, tasks, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"no task is called {name!r}.{hint} Known tasks: {', '.join(tasks) or 'none'}")
    return tasks[name]


def _write(results: Results, folder: Path) -> None:
    write_results(results, folder / "results.json")
    write_text(folder / "summary.md", format_summary(results))
    plot_results(results, folder / "curves.png")
    run = results.runs[-1]
    _log.info("%s of seed %d: score %.4f at the end; see %s", run.method, run.seed, run.points[-1].score, folder)
