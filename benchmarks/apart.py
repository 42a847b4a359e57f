"""A function of each of many items, in a process for each: one that crashes or hangs costs no other its result."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Answer = dict[str, Any]

# A fork has what its parent imported; an import of torch and timm for every item would take most of the time.
_CONTEXT = multiprocessing.get_context("fork")


@dataclass
class _Job:
    item: str
    process: multiprocessing.process.BaseProcess
    answers: Connection
    started: float


def run_apart(
    function: Callable[[str], Answer], items: Iterable[str], *, processes: int, limit: float
) -> Iterator[tuple[str, Answer]]:
    """Run a function on items, some at once.

    Args:
        function: from an item to its answer.
        items: in the order in which they are begun.
        processes: that run at once.
        limit: seconds after which one is stopped.

    Yields:
        Item and answer, in the order in which they are done; of what fails the answer is its ``error`` alone.
    """
    waiting, running = deque(items), list[_Job]()
    while waiting or running:
        while waiting and len(running) < processes:
            running.append(_start(function, waiting.popleft()))
        left = min(job.started for job in running) + limit - time.monotonic()
        ready = wait([job.answers for job in running], timeout=max(0.0, left))
        for job in [*running]:
            if job.answers in ready or time.monotonic() - job.started > limit:
                running.remove(job)
                yield job.item, _finish(job) if job.answers in ready else _stop(job)


def _start(function: Callable[[str], Answer], item: str) -> _Job:
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_answer, args=(function, item, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Job(item, process, ours, time.monotonic())


def _answer(function: Callable[[str], Answer], item: str, answers: Connection) -> None:
    try:
        answers.send(function(item))
    except Exception as error:
        answers.send({"error": describe(error)})


def describe(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _finish(job: _Job) -> Answer:
    try:
        answer = job.answers.recv()
    except EOFError:  # killed, for want of memory perhaps
        answer = None
    job.process.join()
    return {"error": f"the process ended with {job.process.exitcode}"} if answer is None else answer


def _stop(job: _Job) -> Answer:
    job.process.kill()
    job.process.join()
    return {"error": f"stopped after {time.monotonic() - job.started:.0f} s"}
