"""Processes that share work, and end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

__all__ = ["end_with_parent", "worker_pool"]


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of processes; when this one is killed they stop, rather than train on beside its successor.

    Args:
        workers: how many, at least 1.

    Returns:
        The pool.
    """
    # Processes that are forked while torch's threads run may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent)


def end_with_parent() -> None:
    """Have this process end when the one that started it is gone, whatever it does then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_exit, args=(parent.sentinel,), daemon=True).start()


def _wait_and_exit(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
