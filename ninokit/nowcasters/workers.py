"""Independent pieces of work on several threads, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Barrier
from types import TracebackType
from typing import TypeVar

import torch

__all__ = ["Workers", "plain_mode"]

Result = TypeVar("Result")

# Handing fewer to a thread costs more than it saves: some 30 ms of a forecast, whose jobs are then mostly overhead.
_EDGES_A_THREAD = 2**14


class Workers:
    """At most as many threads as torch uses on the CPU, each running its operators serially.

    One large piece of work a thread beats all threads on each operator in turn: they wait for each other once a
    piece, not once an operator. A context manager, which ends the threads.

    Args:
        device: where the work runs; on an accelerator, one thread keeps it busy.
        edges: that there are to work on. With few of them there are fewer threads; a single one is the caller's own,
            with operators as torch runs them.

    Attributes:
        threads: how many.
    """

    def __init__(self, device: torch.device, edges: int) -> None:
        wanted = torch.get_num_threads() if device.type == "cpu" else 1
        self.threads = max(1, min(wanted, edges // _EDGES_A_THREAD))
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
        """Run jobs, a few at a time.

        Args:
            jobs: taken one by one; independent of each other. Threads of the pool run them in plain mode, the caller's
                own in the mode that it is in.

        Yields:
            Their results in the order of the jobs, whichever ends first.
        """
        if self._pool is None:
            for job in jobs:
                yield job()
            return
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(self._pool.submit(job))
            if len(waiting) > 2 * self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def plain_mode(device: torch.device) -> Iterator[None]:
    """Compute without gradients, and as it is written, whatever mode the caller's thread is in.

    Modes are each thread's own: tensors of an inference mode, or products in an autocast's dtype, would meet plain
    ones of other threads.

    Args:
        device: where autocast has no say meanwhile.
    """
    autocast = torch.amp.is_autocast_available(device.type)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False) if autocast else nullcontext(),
    ):
        yield


def _started_pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads have all started: each sets, for itself, that its operators are serial and plain.

    The former is the default of threads to come as well, so it is put back when all have set it.
    """
    pool = ThreadPoolExecutor(threads, "ninokit", initializer=_compute_plainly)
    before, met = torch.get_num_threads(), Barrier(threads)
    try:
        list(pool.map(lambda _: met.wait(), range(threads)))
    except BaseException:  # a thread that can't start leaves the others waiting
        met.abort()
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        torch.set_num_threads(before)
    return pool


def _compute_plainly() -> None:
    """Serially and without gradients; no other mode is on in a new thread."""
    torch.set_grad_enabled(False)
    torch.get_num_threads()  # the first call in a thread takes the default, and would undo what was set before it
    torch.set_num_threads(1)


def _let_freed_memory_be_used_again() -> None:
    """Have the C library keep blocks of a few megabytes when they are freed, instead of returning them to the system.

    Getting them back, page by page, would cost more than what is computed in them. glibc learns from the largest
    block (below 32 MiB) that it has seen freed, for the rest of the process: see M_MMAP_THRESHOLD in mallopt(3).
    Others ignore it.
    """
    torch.empty(2**24, dtype=torch.uint8)
