"""An evaluation as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from ninokit.benchmarks.evaluation.results import REFERENCE, ArmResult, Evaluation, TaskResult
from ninokit.benchmarks.evaluation.savings import StepsSaved
from ninokit.benchmarks.summary import Saving, aligned_table, format_saving

__all__ = ["format_evaluation", "format_saved"]

_NOTHING = "–"
_READING = """\
Every arm is scored at its averaged weights (or at the trained ones, where these validated better), on the test split.
An arm saves 25 % of its rival's steps if the rival takes a third more to the same loss, read on its mean curve, where
it stays there. In brackets is the interval of 95 % over the seeds, a bootstrap of the pairs; one that holds 0 is no
claim. `≥` stands where the rival did not get there in twice the steps, `≤` where it was there from the start."""
_TUNED = """\
All settings were chosen on the validation split and on other seeds: the rate first, on the same grid for every arm,
then the one setting of its own."""
_UNTUNED = "Nothing was tuned: every arm trains at the task's rate, with its own defaults."


def format_evaluation(evaluation: Evaluation) -> str:
    """An evaluation for people.

    Args:
        evaluation: of at least one task.

    Returns:
        What each arm saves on each task; then, for each task, losses, settings and where it ran.
    """
    tuned = any(arm.tuned.trials for task in evaluation.tasks for arm in task.arms)
    parts = ["# What each arm saves", f"{_READING}\n\n{_TUNED if tuned else _UNTUNED}"]
    if len(evaluation.tasks) > 1:
        parts += ["## Steps saved, against the best arm without nowcasting", _saving_table(evaluation, None)]
        parts += ["## Steps saved, against AdamW at a constant rate", _saving_table(evaluation, REFERENCE)]
    for task in evaluation.tasks:
        parts += _task(task)
    return "\n\n".join(parts) + "\n"


def format_saved(saved: StepsSaved) -> str:
    """A saving in percent, with its interval.

    Args:
        saved: any.

    Returns:
        Such as ``25 % [20, 30]``.

    Example:
        >>> format_saved(StepsSaved(0.254, 0.2, 0.3, "=", ()))
        '25 % [20, 30]'
        >>> format_saved(StepsSaved(0.496, 0.4, 0.5, "≥", ()))
        '≥49 % [40, 50]'
    """
    share = format_saving(Saving(saved.share, saved.bound))
    return f"{share} [{round(100 * saved.low)}, {round(100 * saved.high)}]"


def _saving_table(evaluation: Evaluation, rival: str | None) -> str:
    """A row a task, a column an arm; the last row are medians over the tasks, of those savings."""
    names = [name for name in evaluation.arms if name != rival]
    body = []
    for task in evaluation.tasks:
        against = rival or task.rival
        body.append((task.task, against, *(_saving_cell(task, name, against) for name in names)))
    medians = (_median_cell([t for t in evaluation.tasks if _has(t, name)], name, rival) for name in names)
    return aligned_table(("task", "rival", *names), [*body, ("median of the savings", "", *medians)])


def _has(task: TaskResult, name: str) -> bool:
    return name not in task.unsuited


def _saving_cell(task: TaskResult, name: str, rival: str) -> str:
    if not _has(task, name):
        return task.unsuited[name]
    return "the rival" if name == rival else format_saved(task.saved(name, rival))


def _median_cell(tasks: Sequence[TaskResult], name: str, rival: str | None) -> str:
    against = [(task, rival or task.rival) for task in tasks]
    shares = [task.saved(name, other).share for task, other in against if other != name]
    return f"{round(100 * statistics.median(shares))} %" if shares else _NOTHING


def _task(task: TaskResult) -> Iterator[str]:
    yield f"## {task.task}: {task.steps} steps"
    yield f"{task.description}. Test loss in nats, the mean of seeds {', '.join(map(str, task.seeds))}."
    timed = any(arm.seconds for arm in task.arms)
    header = [
        *("arm", "rate", "its setting", "scored at"),
        *(f"loss at {budget}" for budget in task.budgets),
        *("trained weights", f"steps saved against {REFERENCE}"),
        *([f"against {task.rival}"] if task.rival != REFERENCE else []),
        *(["ms a step", "s a nowcast", f"seconds saved against {REFERENCE}"] if timed else []),
    ]
    yield aligned_table(header, [_arm_row(task, arm, timed=timed) for arm in task.arms])
    for name, reason in task.unsuited.items():
        yield f"`{name}` does not suit this network: {reason}."
    yield from _notes(task)
    machine = ", ".join(f"{key} {value}" for key, value in task.environment.items() if value is not None)
    yield f"{machine}."


def _arm_row(task: TaskResult, arm: ArmResult, *, timed: bool) -> tuple[str, ...]:
    setting = arm.tuned.setting
    rivals = [REFERENCE] if task.rival == REFERENCE else [REFERENCE, task.rival]
    return (
        arm.name,
        f"{setting.lr:g}",
        _NOTHING if setting.option is None else f"{setting.option:g}",
        arm.tuned.read_out,
        *(f"{statistics.fmean(arm.losses[budget]):.4f}" for budget in task.budgets),
        f"{statistics.fmean(arm.raw[task.steps]):.4f}",
        *(_NOTHING if arm.name == rival else format_saved(task.saved(arm.name, rival)) for rival in rivals),
        *(_seconds(task, arm) if timed else ()),
    )


def _seconds(task: TaskResult, arm: ArmResult) -> tuple[str, str, str]:
    if arm.seconds is None:
        return _NOTHING, _NOTHING, _NOTHING
    saved = None if arm.name == REFERENCE else task.seconds_saved(arm.name, REFERENCE)
    return (
        f"{1000 * arm.seconds.step:.2f}",
        f"{arm.seconds.nowcast:.3f}" if arm.seconds.nowcasts else _NOTHING,
        _NOTHING if saved is None else f"{round(100 * saved)} %",
    )


def _notes(task: TaskResult) -> Iterator[str]:
    averaging = task.average_saved
    if averaging is not None:
        yield (
            f"Averaging alone: at its averaged weights `{REFERENCE}` saves {format_saved(averaging)} of the "
            "steps that its trained weights take to the same loss. What an arm saves comes on top of that."
        )
    for arm in task.arms:
        if arm.tuned.at_edge:
            yield f"`{arm.name}`: its rate is at the edge of what was tried; beyond it there may be a better one."
        if arm.refused:
            yield f"`{arm.name}`: {arm.refused} nowcasts were refused."
