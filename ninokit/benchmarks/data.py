"""The data of tasks, where they are trained."""

from __future__ import annotations

import functools
from pathlib import Path

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.finding import find_task

__all__ = ["kept_data", "load_data"]


def load_data(task: Task, root: str | None, device: str) -> ClassificationData:
    """A task's data on a device.

    Args:
        task: whose data.
        root: folder of the data sets, for the tasks that read files.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The data.

    Raises:
        DatasetError: it is not there, or damaged.

    Example:
        >>> len(load_data(find_task("digits_mlp"), None, "cpu").test_inputs)
        360
    """
    return task.load_data(None if root is None else Path(root)).to(device)


@functools.lru_cache(maxsize=1)
def kept_data(task: str, root: str | None, device: str) -> ClassificationData:
    """`load_data` of a registered task, kept for the next call in this process; ``cache_clear()`` lets it go.

    Args:
        task: its name.
        root: see `load_data`.
        device: see `load_data`.

    Returns:
        The data.

    Raises:
        ConfigError: there is no such task.
        DatasetError: see `load_data`.
    """
    return load_data(find_task(task), root, device)
