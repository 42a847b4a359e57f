"""A small evaluation with costs made by hand, and a tiny task that only the evaluation sees."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace

import pytest
from hand_made_runs import run
from torch import nn

from ninokit import hookimpl
from ninokit.benchmarks import ClassificationData, Task
from ninokit.benchmarks import compare as compare_module
from ninokit.benchmarks.evaluation.results import Evaluation, Method, TaskResult, Trial, joined
from ninokit.plugins import Registry

ENVIRONMENT = {"python": "3.x", "processor": "a processor", "threads": 1, "device": "cpu", "commit": "abc"}


@pytest.fixture
def evaluation() -> Evaluation:
    adamw = Method("AdamW", 0.01, (run(100), run(200), run(400)))
    tuned = Method("AdamW tuned", 0.02, (run(80), run(160), run(600, False)))
    mine = Method("mine_h8.test", 0.01, (run(50), run(150), run(600, False)), "in")
    trials = (Trial(0.01, (run(120),), 0.91), Trial(0.02, (run(90),), None))
    first = TaskResult("first", "test accuracy", 0.9, 10, (0, 1, 2), (adamw, tuned, mine), ENVIRONMENT, trials)
    missed = replace(adamw, runs=(run(600, False),) * 3)
    late = replace(mine, runs=(run(300), run(450), run(600)), distribution="out")
    second = replace(first, task="second", methods=(missed, replace(missed, name="AdamW tuned"), late), trials=())
    second = replace(second, environment=ENVIRONMENT | {"commit": "def", "threads": 2})
    environment = joined([first.environment, second.environment])
    trained_on = {"mine_h8.test": ("first",)}
    return Evaluation("mine_h8.test", {"tasks": ["first", "second"]}, environment, trained_on, (first, second))


@pytest.fixture
def loads(tiny: Task, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Registers the tasks ``tiny`` and ``tinier``, and lists whose data was loaded."""
    loaded: list[str] = []

    def counted(name: str) -> Callable[[object], ClassificationData]:
        def load(root: object) -> ClassificationData:
            loaded.append(name)
            return tiny.load_data(None)

        return load

    tinier = replace(tiny, name="tinier", build_model=lambda: nn.Linear(2, 3), load_data=counted("tinier"), period=15)
    registered = [replace(tiny, load_data=counted("tiny")), tinier]
    ours = Registry.discover()
    plugin = types.SimpleNamespace(ninokit_tasks=hookimpl(lambda: registered))
    plugin.ninokit_tasks.__name__ = "ninokit_tasks"
    ours.register(plugin, "tiny")
    monkeypatch.setattr(compare_module, "registry", lambda: ours)
    return loaded
