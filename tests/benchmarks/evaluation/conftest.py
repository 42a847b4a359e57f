"""A tiny task and its arms, registered for one test, and a small evaluation made by hand."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from ninokit.benchmarks import Task
from ninokit.benchmarks.arms import Arm, UnsuitedArmError, nowcasting_arm, optimizer_arm
from ninokit.benchmarks.arms.null import NULL
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.evaluation import store as store_module
from ninokit.benchmarks.evaluation.results import ArmResult, Evaluation, TaskResult
from ninokit.benchmarks.evaluation.run import ReadOutName, RunPlan
from ninokit.benchmarks.evaluation.savings import Curve
from ninokit.benchmarks.evaluation.tuning import Setting, Trial, Tuned
from ninokit.nowcasters import LineFit
from ninokit.plugins import registry


def adamw(name: str, factor: float = 1.0) -> Arm:
    """AdamW at a multiple of the rate, and with nothing of its own to tune."""

    def optimizers(model, recipe):
        return [torch.optim.AdamW(model.parameters(), lr=factor * recipe.lr, weight_decay=recipe.weight_decay)]

    return optimizer_arm(name, f"AdamW at {factor:g} × the rate", optimizers)


def _refuse(model, recipe):
    raise UnsuitedArmError("sparse: expected embeddings; got none. Leave it out", "it has no embeddings")


ARMS = (
    adamw("adamw"),
    adamw("twin"),
    adamw("twice", 2.0),
    NULL,
    nowcasting_arm("linefit", LineFit(context=2)),  # a context for periods as short as the tiny tasks'
    Arm(name="sparse", description="for embeddings alone", begin=_refuse),
)


class Registered:
    """The registry with other arms and tasks."""

    def __init__(self, arms: Sequence[Arm], tasks: Sequence[Task]) -> None:
        self._arms, self._tasks = arms, tasks

    def arms(self) -> dict[str, Arm]:
        return {arm.name: arm for arm in self._arms}

    def tasks(self) -> dict[str, Task]:
        return {task.name: task for task in self._tasks}

    def nowcasters(self) -> object:
        return registry().nowcasters()


@pytest.fixture
def short(tiny: Task) -> Task:
    """So short that the average spans one step: what jumps to where it is has AdamW's losses, bit for bit."""
    return replace(tiny, name="short", total_steps=16, period=4)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Registers tasks, and arms other than the usual ones."""

    def to(tasks: Sequence[Task], arms: Sequence[Arm] = ARMS) -> None:
        ours = Registered(arms, tasks)
        monkeypatch.setattr("ninokit.benchmarks.arms.finding.registry", lambda: ours)
        monkeypatch.setattr("ninokit.benchmarks.tasks.finding.registry", lambda: ours)
        kept_data.cache_clear()

    yield to
    kept_data.cache_clear()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunPlan]:
    """Lists what is trained in this process."""
    plans: list[RunPlan] = []
    train = store_module.train_arm

    def listing(plan: RunPlan, *args: object, **kwargs: object) -> object:
        plans.append(plan)
        return train(plan, *args, **kwargs)

    monkeypatch.setattr(store_module, "train_arm", listing)
    return plans


@pytest.fixture
def plan(tiny: Task) -> RunPlan:
    return RunPlan(tiny, adamw("adamw"), 0.01, None, seed=3, steps=40, split="test", curve="averaged")


def arm_result(
    name: str,
    losses: Sequence[Sequence[float]],
    *,
    option: float | None = None,
    nowcasts: bool = False,
    read_out: ReadOutName = "averaged",
    tuned: bool = True,
    jumps: tuple[int, ...] = (),
) -> ArmResult:
    """An arm with a row of losses a seed, after 100, 200, … steps, of 400; the trained weights' are larger by 0.5."""
    curve = Curve(tuple(100 * index for index in range(1, len(losses[0]) + 1)), tuple(map(tuple, losses)))
    budgets = {budget: tuple(row[budget // 100 - 1] for row in losses) for budget in (100, 200, 400)}
    setting = Setting(0.01, option)
    trials = (Trial(setting, 2.0, 2.5),) if tuned else ()
    raw = {budget: tuple(loss + 0.5 for loss in values) for budget, values in budgets.items()}
    chosen = (budgets, raw) if read_out == "averaged" else (raw, budgets)
    return ArmResult(name, f"{name}, as made", nowcasts, Tuned(setting, read_out, trials), *chosen, curve, jumps=jumps)


def task_result(arms: Sequence[ArmResult], *, rival: str = "adamw", name: str = "first") -> TaskResult:
    return TaskResult(
        task=name,
        description="A task made by hand",
        steps=400,
        period=100,
        budgets=(100, 200, 400),
        seeds=tuple(range(len(arms[0].curve.losses))),
        arms=tuple(arms),
        rival=rival,
        unsuited={},
        environment={"python": "3.x", "commit": None, "threads": 1},
    )


# The mean falls by 0.5 in 100 steps, from 4 at 100 to 0.5 at 800.
REFERENCE_LOSSES = [[4.1 - 0.5 * k for k in range(8)], [3.9 - 0.5 * k for k in range(8)]]
# After 400 steps where the reference is after 500 and 800.
BETTER_LOSSES, BEST_LOSSES = (
    [[shift + end + slope * left for left in (3, 2, 1, 0)] for shift in (0.1, -0.1)]
    for end, slope in ((2.0, 0.6), (0.5, 1.0))
)


@pytest.fixture
def make() -> types.SimpleNamespace:
    """What makes results by hand."""
    return types.SimpleNamespace(arm=arm_result, task=task_result)


@pytest.fixture
def evaluation() -> Evaluation:
    """Of two tasks: on the second, `linefit` does not suit, and `muon` is the rival."""
    reference = arm_result("adamw", REFERENCE_LOSSES, option=0.99)
    muon = arm_result("muon", BETTER_LOSSES, read_out="raw")
    line = arm_result("linefit", BEST_LOSSES, option=1.5, nowcasts=True, jumps=(100, 200))
    line = replace(line, refused=3, tuned=replace(line.tuned, at_edge=True))
    longer = arm_result("muon", [[*row, *(row[-1] - 0.2 * k for k in range(1, 5))] for row in BETTER_LOSSES])
    first = task_result([reference, muon, line])
    second = task_result([reference, longer], rival="muon", name="second")
    return Evaluation({"seeds": [0, 1]}, (first, replace(second, unsuited={"linefit": "it has no graph"})))
