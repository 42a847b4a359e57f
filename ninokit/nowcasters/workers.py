"""Independent pieces of work on several threads, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from types import TracebackType
from typing import TypeVar

import torch

__all__ = ["Workers"]

Result = TypeVar("Result")


class Workers:
    """As many threads as torch uses on the CPU, each running its operators serially.

    One large piece of work a thread beats all threads on each operator in turn: they wait for each other once a
    piece, not once an operator. A context manager, which ends the threads.

    Args:
        device: where the work runs; on an accelerator, one thread keeps it busy.

    Attributes:
        threads: how many.
    """

    def __init__(self, device: torch.device) -> None:
        self.threads = torch.get_num_threads() if device.type == "cpu" else 1
        _let_freed_memory_be_used_again()
        self._pool = _started_pool(self.threads) if self.threads > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, jobs: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """Run jobs, a few at a time, without gradients.

        Args:
            jobs: taken one by one; independent of each other.

        Yields:
            Their results in the order of the jobs, whichever ends first.
        """
        if self._pool is None:
            for job in jobs:
                yield _without_gradients(job)
            return
        with _serial_operators():
            waiting: deque[Future[Result]] = deque()
            for job in jobs:
                waiting.append(self._pool.submit(_without_gradients, job))
                if len(waiting) > 2 * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def _started_pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads have all started: each sets, for itself, that its operators are serial.

    The setting is the whole program's as well, so no thread may start, and set it, while others compute.
    """
    pool = ThreadPoolExecutor(threads, "ninokit", initializer=torch.set_num_threads, initargs=(1,))
    with _serial_operators():
        met = Barrier(threads)
        list(pool.map(lambda _: met.wait(), range(threads)))
    return pool


def _let_freed_memory_be_used_again() -> None:
    """Have the C library keep blocks of a few megabytes when they are freed, instead of returning them to the system.

    Getting them back, page by page, would cost more than what is computed in them. glibc learns from the largest
    block (below 32 MiB) that it has seen freed: see M_MMAP_THRESHOLD in mallopt(3). Others ignore it.
    """
    torch.empty(2**24, dtype=torch.uint8)


def _without_gradients(job: Callable[[], Result]) -> Result:
    with torch.no_grad():  # of this thread: a new one records gradients
        return job()


@contextmanager
def _serial_operators() -> Iterator[None]:
    """One thread an operator, also in threads whose first operator runs meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
