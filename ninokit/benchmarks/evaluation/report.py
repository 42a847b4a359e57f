"""An evaluation as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ninokit.benchmarks.evaluation.contenders import ADAMW, TUNED
from ninokit.benchmarks.evaluation.results import Evaluation, Method, TaskResult
from ninokit.benchmarks.summary import (
    SECONDS,
    STEPS,
    Cost,
    Row,
    Saving,
    aligned_table,
    format_cost,
    format_saving,
    median_saving,
)

__all__ = ["format_evaluation"]

_NOTHING = "–"
_IN = "*"
_READING = f"""\
A saving is the median of the seeds', which are in brackets. A target that was missed counts as later than every one
that was reached: `>600` was not reached in 600, `≥38 %` is at least that much, and a dash means that nothing can be
told. {_IN} stands where the nowcaster was trained on the task. The last rows are medians over the tasks; what is known
only by a bound gives a bound. Nowcasters train at the task's own learning rate."""
_BASELINES = {ADAMW: "AdamW at the task's own learning rate", TUNED: "AdamW at a tuned learning rate"}
# The rows of medians, and which tasks they are over: all, or those in or out of a nowcaster's training distribution.
_MEDIANS = {"median": None, "median, trained on": "in", "median, not trained on": "out"}

_SavingOf = Callable[[Row], Saving | None]


def format_evaluation(evaluation: Evaluation) -> str:
    """An evaluation for people.

    Args:
        evaluation: of at least one task.

    Returns:
        Tables of the savings, then what each method took on each task, and where it ran.
    """
    tasks = evaluation.tasks
    baselines = [method.name for method in tasks[0].methods if method.name in _BASELINES]
    machine = ", ".join(f"{key} {value}" for key, value in evaluation.environment.items() if value is not None)
    parts = [f"# {evaluation.nowcaster}: steps and seconds to the target", _READING]
    for baseline in baselines:
        against = f"saved, against {_BASELINES[baseline]}"
        parts += [f"## Steps {against}", _saving_table(tasks, baseline, lambda row: row.steps_saved)]
        parts += [f"## Seconds {against}", _saving_table(tasks, baseline, lambda row: row.seconds_saved)]
    for task in tasks:
        parts += _task(task)
    parts += [f"`{name}` was trained on {', '.join(known)}." for name, known in evaluation.trained_on.items()]
    return "\n\n".join([*parts, f"{machine}.\n"])


def _saving_table(tasks: Sequence[TaskResult], baseline: str, saving: _SavingOf) -> str:
    names = [method.name for method in tasks[0].methods if method.name not in (ADAMW, baseline)]
    body = [(task.task, *(_saving_cell(task, baseline, name, saving) for name in names)) for task in tasks]
    return aligned_table(("task", *names), [*body, *_medians(tasks, baseline, names, saving)])


def _saving_cell(task: TaskResult, baseline: str, name: str, saving: _SavingOf) -> str:
    rows = task.rows(baseline, name)
    seeds = ", ".join(format_saving(saving(row)) for row in rows[: len(task.seeds)])
    each = f" ({seeds})" if len(task.seeds) > 1 else ""
    mark = f" {_IN}" if task.method(name).distribution == "in" else ""
    return f"{format_saving(saving(rows[-1]))}{each}{mark}"


def _medians(
    tasks: Sequence[TaskResult], baseline: str, names: Sequence[str], saving: _SavingOf
) -> Iterator[tuple[str, ...]]:
    for label, part in _MEDIANS.items():
        of = {name: [t for t in tasks if part is None or t.method(name).distribution == part] for name in names}
        if any(of.values()):
            savings = ([saving(task.rows(baseline, name)[-1]) for task in of[name]] for name in names)
            yield label, *(format_saving(median_saving(each)) if each else _NOTHING for each in savings)


def _task(task: TaskResult) -> list[str]:
    title = f"## {task.task}: to a {task.metric} of {task.target:g}, a nowcast every {task.period} steps"
    seeds = f"of seeds {', '.join(map(str, task.seeds))}"
    header = ("method", "learning rate", "steps", seeds, "seconds", seeds)
    return [title, aligned_table(header, [_task_row(task, method) for method in task.methods]), *_tuning(task)]


def _task_row(task: TaskResult, method: Method) -> tuple[str, ...]:
    rows = task.rows(ADAMW, method.name)
    steps, seconds = [row.nowcasting_steps for row in rows], [row.nowcasting_seconds for row in rows]
    return method.name, f"{method.lr:g}", *_cost_cells(task, steps, STEPS), *_cost_cells(task, seconds, SECONDS)


def _cost_cells(task: TaskResult, costs: Sequence[Cost | None], style: str) -> tuple[str, str]:
    """The median, and all seeds."""
    shown = [format_cost(cost, style) for cost in costs]
    return shown[-1], ", ".join(shown[: len(task.seeds)])


def _tuning(task: TaskResult) -> list[str]:
    """The learning rates that AdamW was tried with."""
    if not task.trials:
        return []
    chosen = task.method(TUNED).lr
    body = [
        (
            f"{trial.lr:g}" + (" (chosen)" if trial.lr == chosen else ""),
            ", ".join(format_cost(run.costs[0], STEPS) for run in trial.runs),
            _NOTHING if trial.score is None else f"{trial.score:.4f}",
        )
        for trial in task.trials
    ]
    parts = ["AdamW alone, on seeds that are not compared:", aligned_table(("learning rate", "steps", "best"), body)]
    if chosen in (task.trials[0].lr, task.trials[-1].lr):
        parts.append("The chosen one is at the edge of what was tried; beyond it there may be a better one.")
    return parts
