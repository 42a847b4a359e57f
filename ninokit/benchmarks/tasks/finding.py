"""A task by its name."""

from __future__ import annotations

import difflib

from ninokit.benchmarks.task import Task
from ninokit.errors import ConfigError
from ninokit.plugins import registry

__all__ = ["find_task"]


def find_task(name: str) -> Task:
    """A registered task.

    Args:
        name: the task's name.

    Returns:
        The task.

    Raises:
        ConfigError: there is none of that name.
    """
    tasks = registry().tasks()
    if name not in tasks:
        close = difflib.get_close_matches(name, tasks, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"no task is called {name!r}.{hint} Known tasks: {', '.join(tasks) or 'none'}")
    return tasks[name]
