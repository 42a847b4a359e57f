"""Cards to test with."""

from __future__ import annotations

from typing import Any

from ninokit.benchmarks.evaluation.results import ArmResult, TaskResult
from ninokit.benchmarks.evaluation.savings import Curve
from ninokit.benchmarks.evaluation.tuning import Setting, Tuned
from ninokit.zoo import Card, Measurement, Run, SavedSteps, SeedRuns, TaskSaving, TrainingRun, TrainingTask


def make_card(**changes: Any) -> Card:
    fields: dict[str, Any] = {
        "name": "wnn_h8.test",
        "description": "a small one",
        "family": "wnn",
        "arguments": {"hidden": 8, "context": 3, "max_horizon": 7},
        "context": 3,
        "period": 100,
        "max_horizon": 7,
        "positions": None,
        "licence": "MIT",
        "trained_on": [TrainingTask(task="digits_mlp", trajectories=8, steps=2000)],
        "training": TrainingRun(command="ninokit pretrain", config={"lr": 0.001, "tasks": ["digits_mlp"]}),
    }
    return Card(**{**fields, **changes})


def make_measurement(*costs: tuple[int, float, bool, int, float, bool]) -> Measurement:
    return Measurement(
        task="digits_mlp",
        distribution="in",
        metric="test accuracy",
        target=0.95,
        baseline="AdamW, learning rate 0.001",
        period=100,
        hardware="a processor, threads 1",
        seeds=[
            SeedRuns(
                seed=seed,
                baseline=Run(steps=steps, seconds=seconds, reached=reached),
                nowcasting=Run(steps=steps_now, seconds=seconds_now, reached=reached_now),
            )
            for seed, (steps, seconds, reached, steps_now, seconds_now, reached_now) in enumerate(costs)
        ],
    )


def make_saving(**changes: Any) -> TaskSaving:
    fields: dict[str, Any] = {
        "task": "digits_mlp",
        "distribution": "in",
        "steps": 2000,
        "seeds": 5,
        "period": 150,
        "lr": 0.008,
        "rival": "snoo",
        "against_rival": SavedSteps(share=-0.041, low=-0.126, high=0.052, bound="="),
        "against_adamw": SavedSteps(share=0.5, low=0.312, high=0.5, bound="≥"),
        "hardware": "a processor, threads 1",
    }
    return TaskSaving(**{**fields, **changes})


def make_task_result(*names: str, task: str = "digits_mlp", period: int = 20, option: float = 1.5) -> TaskResult:
    """AdamW, muon, and nowcasters that have after 200 steps what muon has after 300, and AdamW not after 400."""
    losses = {"adamw": (5.0, 4.0, 3.5, 3.0), "muon": (4.0, 3.0, 2.0, 1.0), **dict.fromkeys(names, (3.0, 2.0))}
    arms = tuple(_make_arm(name, row, option if name in names else None) for name, row in losses.items())
    return TaskResult(
        task=task,
        description="made by hand",
        steps=200,
        period=period,
        budgets=(100, 200),
        seeds=(3, 7),
        arms=arms,
        rival="muon",
        unsuited={},
        environment={"processor": "a processor", "device": "cpu", "threads": 1, "commit": "b" * 40},
    )


def _make_arm(name: str, losses: tuple[float, ...], option: float | None) -> ArmResult:
    """Of two seeds alike; the trained weights are worse."""
    budgets = {100: losses[:1] * 2, 200: losses[1:2] * 2}
    raw = {budget: tuple(loss + 9 for loss in both) for budget, both in budgets.items()}
    curve = Curve((100, 200, 300, 400)[: len(losses)], (losses, losses))
    tuned = Tuned(Setting(0.02, option), "averaged", ())
    return ArmResult(name, "made by hand", option is not None, tuned, budgets, raw, curve)
