"""What an evaluation has found: the losses of each arm on each task, seed by seed, and what they save.

Shape legend: N = seeds, E = evaluations of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from pydantic import TypeAdapter, ValidationError

from ninokit.benchmarks.evaluation.savings import Curve, Loss, StepsSaved, equivalent_steps, steps_saved
from ninokit.benchmarks.evaluation.tuning import Tuned
from ninokit.benchmarks.report import write_text
from ninokit.errors import ConfigError

__all__ = ["REFERENCE", "ArmResult", "Evaluation", "Seconds", "TaskResult", "joined", "read_evaluation"]

REFERENCE = "adamw"


@dataclass(frozen=True)
class Seconds:
    """What an arm's training takes, measured in one run with its rivals.

    Args:
        step: median seconds of a step.
        nowcast: median seconds of a nowcast; 0 without nowcasts.
        nowcasts: in the task's steps.
    """

    step: float
    nowcast: float
    nowcasts: int

    def of(self, steps: float) -> float:
        """Seconds of some steps, with the nowcasts of the whole training."""
        return steps * self.step + self.nowcasts * self.nowcast


@dataclass(frozen=True)
class ArmResult:
    """One arm on one task.

    Args:
        name: the arm's.
        description: one line.
        nowcasts: whether weights jump.
        tuned: the setting, and how it was found.
        averaged: a budget in steps → the loss at the averaged weights after so many, a seed each. Shape (N,).
        raw: the same at the trained weights.
        curve: the losses at ``tuned.read_out`` along the longest run; of an arm that depends on its budget, along that
            of the task's steps.
        raw_curve: of AdamW, the losses at the trained weights along the same run; None of other arms.
        jumps: the steps of accepted nowcasts in the first seed's run of the task's steps.
        refused: nowcasts that were refused, in all those runs.
        seconds: what it takes; None if that was not measured.
    """

    name: str
    description: str
    nowcasts: bool
    tuned: Tuned
    averaged: Mapping[int, tuple[Loss, ...]]
    raw: Mapping[int, tuple[Loss, ...]]
    curve: Curve
    raw_curve: Optional[Curve] = None  # noqa: UP045 - pydantic reads the annotations at run time
    jumps: tuple[int, ...] = ()
    refused: int = 0
    seconds: Seconds | None = None

    @property
    def losses(self) -> Mapping[int, tuple[float, ...]]:
        """A budget → the loss at the read-out that was chosen."""
        return self.averaged if self.tuned.read_out == "averaged" else self.raw


@dataclass(frozen=True)
class TaskResult:
    """All arms on one task.

    Args:
        task: its name.
        description: one line.
        steps: optimizer steps of a run.
        period: optimizer steps between two nowcasts, before that was tuned.
        budgets: after how many steps losses are compared, ascending; the last is ``steps``.
        seeds: of the runs.
        arms: AdamW among them.
        rival: the best arm without nowcasting, by the validation loss it was tuned by.
        unsuited: arms that can't train this network → why.
        environment: of the runs, as from `describe_environment`; where they differ, all values in one text.
    """

    task: str
    description: str
    steps: int
    period: int
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    rival: str
    unsuited: Mapping[str, str]
    environment: Mapping[str, Any]

    def arm(self, name: str) -> ArmResult:
        """The arm of a name that is there."""
        return next(arm for arm in self.arms if arm.name == name)

    def saved(self, name: str, rival: str) -> StepsSaved:
        """What an arm saves of a rival's steps.

        Args:
            name: the arm's.
            rival: the rival's, whose curve goes on for twice the task's steps.

        Returns:
            The saving of equivalent steps.
        """
        if (name, rival) not in self._known_savings:
            finals = self.arm(name).losses[self.steps]
            self._known_savings[name, rival] = steps_saved(finals, self.steps, self.arm(rival).curve)
        return self._known_savings[name, rival]

    @property
    def average_saved(self) -> StepsSaved | None:
        """What AdamW's average saves of the steps that its trained weights take to the same loss; None if unknown."""
        reference = self.arm(REFERENCE)
        if reference.raw_curve is None:
            return None
        return steps_saved(reference.averaged[self.steps], self.steps, reference.raw_curve)

    @cached_property
    def _known_savings(self) -> dict[tuple[str, str], StepsSaved]:
        """No field: neither `replace` nor the file shall carry what was computed from other fields."""
        return {}

    def seconds_saved(self, name: str, rival: str) -> float | None:
        """The share of the rival's seconds to the same loss; None if it was not measured.

        Args:
            name: the arm's.
            rival: the rival's.
        """
        arm, other = self.arm(name).seconds, self.arm(rival).seconds
        if arm is None or other is None:
            return None
        losses = self.arm(name).losses[self.steps]
        equivalent = equivalent_steps(self.arm(rival).curve, sum(losses) / len(losses))
        return 1 - arm.of(self.steps) / other.of(equivalent.step)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, as far as it has come.

    Args:
        settings: plain values.
        tasks: those that are finished.
    """

    settings: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The names of all arms, in their order."""
        return tuple(dict.fromkeys(arm.name for task in self.tasks for arm in task.arms))

    def write(self, path: Path) -> None:
        """Write it as JSON, replacing the file in one go.

        Args:
            path: the file; its folder must exist.
        """
        write_text(path, _ADAPTER.dump_json(self, indent=1).decode() + "\n")


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


_ADAPTER = TypeAdapter(Evaluation)


def read_evaluation(path: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote.

    Args:
        path: the JSON file.

    Returns:
        The evaluation; a loss that was not finite is NaN.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"{path}: expected the evaluation.json that `ninokit evaluate` wrote; got {type(error).__name__}: {error}"
        ) from error
