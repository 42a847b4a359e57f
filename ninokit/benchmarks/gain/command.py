"""``ninokit gain``: the steps gained by jumps in a task's training, as a table, a file and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from ninokit._optional import require
from ninokit.benchmarks.contenders import load_contenders
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.device import check_device, share_of_cpus, torch_threads
from ninokit.benchmarks.gain.bank import Curve
from ninokit.benchmarks.gain.measure import Outcomes, curve_of, measure, trials_of
from ninokit.benchmarks.gain.plan import GainPlan, Inputs, Piece
from ninokit.benchmarks.gain.plot import plot_gain
from ninokit.benchmarks.gain.settings import GainConfig
from ninokit.benchmarks.gain.table import GainTable, write_gain
from ninokit.benchmarks.gain.training import Make, task_training
from ninokit.benchmarks.report import write_text
from ninokit.benchmarks.task import Task
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.benchmarks.workers import worker_pool
from ninokit.errors import ConfigError
from ninokit.nowcasters import load

__all__ = ["default_times", "measure_task"]


def default_times(task: Task) -> list[int]:
    """Four times of a task's training, at a fifth, two, three and four of it, as whole periods.

    Args:
        task: whose training.

    Returns:
        The steps; fewer where they fall together.

    Example:
        >>> default_times(find_task("mnist1d_mlp"))
        [300, 600, 900, 1200]
    """
    periods = [round(fifth * task.total_steps / 5 / task.period) for fifth in (1, 2, 3, 4)]
    return sorted({task.period * max(1, count) for count in periods})


def measure_task(task: str, nowcasters: Sequence[str], config: GainConfig) -> GainTable:
    """Measure the steps gained in a task's training, and write ``gain.json``, ``gain.md`` and ``gain.png``.

    Banks and the outcomes of trials are kept in the cache; the same call goes on where it was stopped.

    Args:
        task: the name of a registered task.
        nowcasters: of each, what `ninokit.nowcasters.load` takes.
        config: the settings.

    Returns:
        The table.

    Raises:
        ConfigError: a setting does not fit.
        CheckpointError: a nowcaster can't be loaded.
        DatasetError: the task's data is not there.
        DependencyError: an optional package is missing.
    """
    if not nowcasters:
        raise ConfigError("gain: expected nowcasters after the task, such as linefit; got none")
    # Asked before minutes of training, not after them.
    require("matplotlib.figure", "the picture of the steps gained")
    check_device(config.device)
    work = _Work(task, tuple(nowcasters), config)
    plan = work.plan()
    with worker_pool(config.workers) if config.workers > 1 else nullcontext() as pool:
        table = measure(plan, work.trials, work.curve, map if pool is None else pool.map)
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    write_gain(table, folder / "gain.json")
    write_text(folder / "gain.md", table.to_markdown())
    plot_gain(table, folder / "gain.png")
    return table


@dataclass(frozen=True)
class _Work:
    """The command's pieces by names, as another process can do them."""

    task: str
    nowcasters: tuple[str, ...]
    config: GainConfig

    def plan(self) -> GainPlan:
        task, config = find_task(self.task), self.config
        return GainPlan(
            name=task.name,
            nowcasters={each.name: each.nowcaster for each in load_contenders(self.nowcasters)},
            period=task.period,
            times=config.times or default_times(task),
            horizons=config.horizons,
            rates=config.rates,
            seeds=config.seeds,
            inputs=cast("list[Inputs]", config.inputs),
            recovery=config.recovery,
            earlier=None if config.earlier is None else load(config.earlier),
            earlier_horizon=config.earlier_horizon,
        )

    def trials(self, piece: Piece) -> Outcomes:
        with self._threads():
            return trials_of(self._make(), self.plan(), piece)

    def curve(self, until: tuple[Piece, float]) -> Curve:
        with self._threads():
            return curve_of(self._make(), self.plan(), until)

    def _threads(self) -> AbstractContextManager[None]:
        return torch_threads(self.config.threads or share_of_cpus(self.config.workers))

    def _make(self) -> Make:
        data = kept_data(self.task, self.config.data_root, self.config.device)
        return partial(task_training, find_task(self.task), data)
