"""Where training runs: a device that is there, on so many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ninokit.errors import ConfigError

__all__ = ["check_device", "share_of_cpus", "torch_threads"]


def check_device(device: str) -> None:
    """Refuse a GPU that torch does not see.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: there is no such device.
    """
    if torch.device(device).type == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices here. Set device=cpu"
        )


def share_of_cpus(workers: int) -> int | None:
    """CPU threads of one of several processes.

    Args:
        workers: that there are.

    Returns:
        Its share of the CPUs; None, torch's own choice, for a process alone.
    """
    return None if workers == 1 else max(1, (os.cpu_count() or 1) // workers)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Set torch's CPU threads for a while.

    Args:
        count: how many; None leaves them alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
