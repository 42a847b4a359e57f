"""SciPy's BLAS is serial while compiled kernels call it, and as before when they are done."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ninokit.nowcasters.kernels import serial_blas as module
from ninokit.nowcasters.kernels.serial_blas import has_serial_blas, serial_blas


def threads() -> set[int]:
    return {library["num_threads"] for library in module._blas().info()}


@pytest.fixture
def others():
    """Two threads that live on."""
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        yield first, second


@pytest.fixture(autouse=True)
def _of_two_threads():
    if not has_serial_blas():
        pytest.skip("SciPy, threadpoolctl, or a BLAS that it knows, is missing")
    with module._blas().limit(limits=2):
        assert threads() == {2}
        yield


def test_one_thread_until_the_context_ends():
    with serial_blas():
        assert threads() == {1}
        with serial_blas():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_until_the_last_of_several_threads_is_done(others, first_ends_first):
    contexts = [serial_blas() for _ in others]
    for thread, context in zip(others, contexts, strict=True):
        thread.submit(context.__enter__).result()
        assert threads() == {1}
    early, late = (0, 1) if first_ends_first else (1, 0)
    others[early].submit(contexts[early].__exit__, None, None, None).result()
    assert threads() == {1}
    others[late].submit(contexts[late].__exit__, None, None, None).result()
    assert threads() == {2}


def test_as_before_after_an_error():
    with pytest.raises(ValueError, match="no such tile"), serial_blas():
        raise ValueError("no such tile")
    assert threads() == {2}


@pytest.mark.parametrize("missing", ["scipy.linalg.cython_blas", "threadpoolctl"])
def test_without_what_it_needs(monkeypatch, missing):
    monkeypatch.setattr(module, "_blas", module._blas.__wrapped__)
    assert has_serial_blas()
    monkeypatch.setitem(sys.modules, missing, None)
    assert not has_serial_blas()


def test_a_library_that_cannot_be_set(monkeypatch):
    monkeypatch.setattr(module, "_blas", module._blas.__wrapped__)
    threadpoolctl = pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(
        threadpoolctl.ThreadpoolController, "select", lambda *_, **__: type("None_", (), {"lib_controllers": []})
    )
    assert not has_serial_blas()
