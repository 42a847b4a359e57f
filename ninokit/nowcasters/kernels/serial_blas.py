"""SciPy's BLAS, which compiled kernels call, kept to the thread that calls it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import Any

__all__ = ["has_serial_blas", "serial_blas"]


@cache
def _blas() -> Any:
    """What sets the threads of the BLAS libraries that are loaded, SciPy's among them; None if nothing can."""
    try:
        import scipy.linalg.cython_blas  # noqa: F401  (to be found, it has to be loaded)
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controller = ThreadpoolController().select(user_api="blas")
    return controller if controller.lib_controllers else None


def has_serial_blas() -> bool:
    """Whether there is a BLAS for compiled kernels, whose threads can be set.

    Returns:
        False without SciPy or threadpoolctl, or where SciPy computes with a library that threadpoolctl does not know.
    """
    return _blas() is not None


class _SerialBlas:
    """The setting, which is the whole process's, for as long as anybody wants it.

    Counted, because each of several threads that forecast would otherwise put back what it has found, which another one
    has set. And set and put back by one thread of its own, because threadpoolctl heeds no thread but the first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._setting = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Products are computed on the thread that asks for them, until the context ends."""
        with self._lock:
            if self._users == 0:
                self._setting.enter_context(_on_one_thread())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._setting.close()


@contextmanager
def _on_one_thread() -> Iterator[None]:
    with ThreadPoolExecutor(1, "ninokit-blas") as keeper:
        limit = keeper.submit(_blas().limit, limits=1).result()
        try:
            yield
        finally:
            keeper.submit(limit.restore_original_limits).result()


serial_blas = _SerialBlas()
