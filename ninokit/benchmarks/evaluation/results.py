"""What an evaluation has found: the costs of each method on each task, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ninokit.benchmarks.evaluation.contenders import ADAMW, TUNED
from ninokit.benchmarks.report import describe_hardware, write_text
from ninokit.benchmarks.summary import Row, compare_costs, with_median
from ninokit.errors import ConfigError
from ninokit.zoo import Measurement, Run, SeedRuns

__all__ = ["Evaluation", "Method", "TaskResult", "Trial", "read_evaluation", "write_evaluation"]


@dataclass(frozen=True)
class Method:
    """One way to train a task.

    Args:
        name: ``AdamW``, ``AdamW tuned``, or the nowcaster's.
        lr: AdamW's learning rate.
        runs: what it took, seed by seed.
        distribution: whether the nowcaster was trained on the task; None if that is not known or there is none.
    """

    name: str
    lr: float
    runs: tuple[Run, ...]
    distribution: Literal["in", "out"] | None = None


@dataclass(frozen=True)
class Trial:
    """A learning rate that was tried.

    Args:
        lr: AdamW's.
        runs: what it took, a run a tuning seed.
        score: the median over these seeds of the best score on the way; None if a run had only scores that are not
            finite.
    """

    lr: float
    runs: tuple[Run, ...]
    score: float | None


@dataclass(frozen=True)
class TaskResult:
    """All methods on one task.

    Args:
        task: its name.
        metric: the name of its score.
        target: score to reach.
        period: optimizer steps between two nowcasts.
        seeds: of the runs.
        methods: AdamW first.
        environment: of the runs, as from `describe_environment`; where they differ, all values in one text.
        trials: the learning rates that were tried, in ascending order; none if AdamW was not tuned.
    """

    task: str
    metric: str
    target: float
    period: int
    seeds: tuple[int, ...]
    methods: tuple[Method, ...]
    environment: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()

    def method(self, name: str) -> Method:
        """The method of a name that is there."""
        return next(method for method in self.methods if method.name == name)

    def rows(self, baseline: str, method: str) -> tuple[Row, ...]:
        """What a method saved.

        Args:
            baseline: the name of the method to compare with.
            method: its name.

        Returns:
            A row a seed, with the method in the place of nowcasting; and one for the median, if there are several.
        """
        pairs = zip(self.seeds, self.method(baseline).runs, self.method(method).runs, strict=True)
        return with_median([compare_costs(str(seed), run.costs, other.costs) for seed, run, other in pairs])


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, as far as it has come.

    Args:
        nowcaster: the name of the one that it is about.
        settings: plain values.
        environment: of the runs of all tasks, as in `TaskResult`.
        trained_on: the tasks that each nowcaster was trained on, for those of which it is known.
        tasks: those that are finished.
    """

    nowcaster: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    trained_on: Mapping[str, tuple[str, ...]]
    tasks: tuple[TaskResult, ...]

    def measurements(self) -> list[Measurement]:
        """The rows of the nowcaster's card, one a task, with all other methods beside it.

        Returns:
            None of them if it is not known what the nowcaster was trained on.
        """
        return [
            _measurement(result, method, method.distribution)
            for result in self.tasks
            if (method := result.method(self.nowcaster)).distribution is not None
        ]


def _measurement(result: TaskResult, method: Method, distribution: Literal["in", "out"]) -> Measurement:
    baseline = result.method(ADAMW)
    others = {_full_name(other): other.runs for other in result.methods if other not in (baseline, method)}
    return Measurement(
        task=result.task,
        distribution=distribution,
        metric=result.metric,
        target=result.target,
        baseline=_full_name(baseline),
        period=result.period,
        commit=result.environment["commit"],
        hardware=describe_hardware(result.environment),
        seeds=[
            SeedRuns(
                seed=seed,
                baseline=baseline.runs[index],
                nowcasting=method.runs[index],
                others={name: runs[index] for name, runs in others.items()},
            )
            for index, seed in enumerate(result.seeds)
        ],
    )


def _full_name(method: Method) -> str:
    return f"{method.name}, learning rate {method.lr:g}" if method.name in (ADAMW, TUNED) else method.name


def joined(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The environments of some runs as one: where they differ, all values in one text.

    Args:
        environments: as from `describe_environment`, at least one.

    Returns:
        One of them.

    Example:
        >>> joined([{"threads": 1, "torch": "2.4"}, {"threads": 2, "torch": "2.4"}])
        {'threads': '1 or 2', 'torch': '2.4'}
    """
    values = {name: list(dict.fromkeys(each[name] for each in environments)) for name in environments[0]}
    return {name: found[0] if len(found) == 1 else " or ".join(map(str, found)) for name, found in values.items()}


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write an evaluation as JSON, replacing the file in one go.

    Args:
        evaluation: what to write.
        path: the file; its folder must exist.
    """
    write_text(path, TypeAdapter(Evaluation).dump_json(evaluation, indent=1).decode() + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Args:
        path: the JSON file.

    Returns:
        The evaluation.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        return TypeAdapter(Evaluation).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"{path}: expected the evaluation.json that `ninokit evaluate` wrote; got {type(error).__name__}: {error}"
        ) from error
