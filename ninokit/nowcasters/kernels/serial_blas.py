"""SciPy's BLAS, which compiled kernels call, kept to the thread that calls it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import Any

__all__ = ["has_serial_blas", "serial_blas"]

_log = logging.getLogger(__name__)


@cache
def _blas() -> Any:
    """What sets the threads of the BLAS libraries that are loaded, SciPy's among them; None if nothing can."""
    try:
        import scipy.linalg.cython_blas  # noqa: F401  (to be found, it has to be loaded)
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        _log.info("forecasts on the processor are slower: %s; install ninokit[fast]", error)
        return None
    controller = ThreadpoolController().select(user_api="blas")
    if not controller.lib_controllers:
        _log.info("forecasts on the processor are slower: threadpoolctl does not know SciPy's BLAS")
        return None
    return controller


def has_serial_blas() -> bool:
    """Whether there is a BLAS for compiled kernels, whose threads can be set.

    Returns:
        False without SciPy or threadpoolctl, or where SciPy computes with a library that threadpoolctl does not know.
    """
    return _blas() is not None


class _SerialBlas:
    """The setting, which is the whole process's, for as long as anybody wants it.

    Counted, because each of several threads that forecast would otherwise put back what it has found, which another one
    has set.
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
    _let_any_thread_set()
    limit = _blas().limit(limits=1)
    try:
        yield
    finally:
        _let_any_thread_set()
        limit.restore_original_limits()
        _let_any_thread_set()


def _let_any_thread_set() -> None:
    """Since version 3.8 threadpoolctl heeds the first thread alone that sets OpenBLAS's threads, until that ends.

    Here the last forecast to end puts them back, and that may run in another thread than the first.
    """
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


serial_blas = _SerialBlas()
