"""Finished runs, a file each: every run is trained once, and shared by all tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ninokit.benchmarks.evaluation.run import ArmRun, RunPlan, train_arm
from ninokit.benchmarks.report import describe_environment, write_json
from ninokit.benchmarks.task import ClassificationData
from ninokit.errors import ConfigError
from ninokit.training import NowcastEvent
from ninokit.zoo.settings import cache_folder

__all__ = ["FinishedRun", "RunStore"]


@dataclass(frozen=True)
class FinishedRun:
    """A run, and where it took place.

    Args:
        run: what was measured.
        environment: see `describe_environment`.
    """

    run: ArmRun
    environment: Mapping[str, Any]


class RunStore:
    """A folder of finished runs.

    Several processes may share it: a file is whole at every moment.

    Args:
        folder: made with the first run; None is ``runs`` in the user's cache (``NINOKIT_CACHE``).
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = cache_folder() / "runs" if folder is None else Path(folder)

    def find(self, plan: RunPlan) -> FinishedRun | None:
        """The run that was planned, if it is there.

        Args:
            plan: of the run.

        Returns:
            The run, or None.

        Raises:
            ConfigError: if the run is there, but of other settings, or damaged.
        """
        path = self.folder / plan.file
        return _read(path, plan.settings) if path.exists() else None

    def train(self, plan: RunPlan, load_data: Callable[[], ClassificationData], *, show_progress: bool = True) -> None:
        """Train the run that was planned, if it is not there yet.

        Args:
            plan: of the run.
            load_data: gives the task's data, if it has to be trained.
            show_progress: with a bar, if the output is a terminal.

        Raises:
            ConfigError: if the run is there, but of other settings, or damaged.
        """
        if self.find(plan) is not None:
            return
        path = self.folder / plan.file
        run = train_arm(plan, load_data(), show_progress=show_progress)
        document = {"settings": plan.settings, "environment": describe_environment(plan.device), "run": asdict(run)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(document, path)


def _read(path: Path, settings: Mapping[str, Any]) -> FinishedRun:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = dict(document["settings"])
        run = FinishedRun(_run(document["run"]), document["environment"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: expected a run of an evaluation; got {type(error).__name__}: {error}. Remove the file, and it is "
            "trained anew"
        ) from error
    for name, value in settings.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{path}: this run was trained with {name}={found.get(name)!r}, now {value!r} is asked for. Choose "
                "another folder with store=…, or remove the file"
            )
    return run


def _run(saved: Mapping[str, Any]) -> ArmRun:
    events = tuple(NowcastEvent(**event) for event in saved["events"])
    return ArmRun(_losses(saved["averaged"]), _losses(saved["raw"]), events)


def _losses(saved: Mapping[str, float | None]) -> dict[int, float]:
    """JSON has texts for keys, and null for a loss that was not finite."""
    return {int(step): float("nan") if loss is None else loss for step, loss in saved.items()}
