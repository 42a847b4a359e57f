"""The runs of an evaluation: each is trained once and kept in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ninokit.benchmarks.evaluation.contenders import ADAMW, Contender
from ninokit.benchmarks.evaluation.settings import EvaluateConfig
from ninokit.benchmarks.report import describe_environment, run_from_json, write_json
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.training import RunRecord, nowcast_with, train
from ninokit.errors import ConfigError

__all__ = ["FinishedRun", "RunStore", "TrainingPlan", "plan_run", "runs_folder"]


@dataclass(frozen=True)
class TrainingPlan:
    """A run that is wanted.

    Args:
        task: what to train, with the learning rate of this run.
        seed: of the initial weights and of the order of the batches.
        stop_at_target: end at the first evaluation that reaches the target.
        max_steps: end there; None goes to the task's end.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        contender: the nowcaster; None is AdamW alone.
        show_progress: with a bar, if the output is a terminal.
    """

    task: Task
    seed: int
    stop_at_target: bool
    max_steps: int | None
    device: str
    contender: Contender | None = None
    show_progress: bool = True

    @property
    def file(self) -> Path:
        """Where the run is kept, relative to the folder of all runs."""
        method = ADAMW if self.contender is None else self.contender.name
        return Path(self.task.name, f"{method}-lr{self.task.lr:g}-seed{self.seed}.json")

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, but for the machine, the data, and the code of ninokit and of the task."""
        task = self.task
        names = ("name", "lr", "weight_decay", "batch_size", "total_steps", "eval_every", "target")
        settings = {name: getattr(task, name) for name in names} | {"metric": task.metric.name}
        settings |= {"seed": self.seed, "stop_at_target": self.stop_at_target, "max_steps": self.max_steps}
        if self.contender is not None:
            settings |= {"period": task.period, "weights_sha256": self.contender.weights_sha256}
        return settings

    def train(self, data: ClassificationData) -> RunRecord:
        """Do it.

        Args:
            data: the task's.

        Returns:
            The run.
        """
        return train(
            self.task,
            data,
            seed=self.seed,
            device=self.device,
            attach=None if self.contender is None else nowcast_with(self.contender.nowcaster, self.task),
            stop_at_target=self.stop_at_target,
            max_steps=self.max_steps,
            show_progress=self.show_progress,
        )


def plan_run(
    config: EvaluateConfig, task: Task, seed: int, contender: Contender | None, *, show_progress: bool = True
) -> TrainingPlan:
    """A run of an evaluation.

    Args:
        config: the evaluation's settings.
        task: what to train, with the learning rate of this run.
        seed: see `TrainingPlan`.
        contender: see `TrainingPlan`.
        show_progress: see `TrainingPlan`.

    Returns:
        The plan.
    """
    return TrainingPlan(
        task=task,
        seed=seed,
        stop_at_target=config.stop_at_target,
        max_steps=config.max_steps,
        device=config.device,
        contender=contender,
        show_progress=show_progress,
    )


def runs_folder(config: EvaluateConfig) -> Path:
    """Where an evaluation's runs are kept."""
    return Path(config.out) / "runs"


@dataclass(frozen=True)
class FinishedRun:
    """A run, and where it took place.

    Args:
        record: what was measured.
        environment: see `describe_environment`.
    """

    record: RunRecord
    environment: Mapping[str, Any]


class RunStore:
    """A folder of finished runs, a file each.

    Several processes may share it: a file is whole at every moment.

    Args:
        folder: made with the first run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, plan: TrainingPlan) -> FinishedRun | None:
        """The run that was planned, if it is there.

        Args:
            plan: of the run.

        Returns:
            The run, or None.

        Raises:
            ConfigError: if the run is there, but of other settings.
        """
        path = self.folder / plan.file
        return _read(path, plan.settings) if path.exists() else None

    def get(self, plan: TrainingPlan, load_data: Callable[[], ClassificationData]) -> FinishedRun:
        """The run that was planned, trained only if it is not there yet.

        Args:
            plan: of the run.
            load_data: gives the task's data, if it has to be trained.

        Returns:
            The run.

        Raises:
            ConfigError: if the run is there, but of other settings.
        """
        found = self.find(plan)
        if found is not None:
            return found
        path = self.folder / plan.file
        run = FinishedRun(plan.train(load_data()), describe_environment(plan.device))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json({"settings": plan.settings, "environment": run.environment, "run": asdict(run.record)}, path)
        return run


def _read(path: Path, settings: Mapping[str, Any]) -> FinishedRun:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = document["settings"]
        run = FinishedRun(run_from_json(document["run"]), document["environment"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected a run of an evaluation; got {type(error).__name__}: {error}. Remove the file, and it is "
            "trained anew"
        ) from error
    for name, value in settings.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{path}: this run was trained with {name}={found.get(name)!r}, now {value!r} is asked for. Choose "
                "another folder with out=…, or remove the file"
            )
    return run
