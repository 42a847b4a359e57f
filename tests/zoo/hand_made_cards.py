"""Cards to test with."""

from __future__ import annotations

from typing import Any

from ninokit.zoo import Card, Measurement, Run, SeedRuns, TrainingRun, TrainingTask


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
