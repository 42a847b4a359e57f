"""Work on several threads: in order, without gradients, and with torch's settings left alone."""

import threading
import time

import pytest
import torch

from ninokit.nowcasters.workers import Workers, plain_mode

CPU = torch.device("cpu")
MANY = 10**6  # edges


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_jobs(threads):
    def job(index: int):
        return lambda: (time.sleep(0.002 * (index % 3)), index)[1]

    with Workers(CPU, MANY) as workers:
        assert list(workers.run(job(index) for index in range(20))) == list(range(20))


def test_jobs_run_without_gradients_on_serial_operators(threads):
    with Workers(CPU, MANY) as workers, plain_mode(CPU):
        seen = list(workers.run([lambda: (torch.is_grad_enabled(), torch.get_num_threads())] * 6))
    assert set(seen) == {(False, 1)}
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads


def test_jobs_are_taken_a_few_at_a_time(threads):
    taken = []

    def jobs():
        for index in range(100):
            taken.append(index)
            yield lambda: None

    with Workers(CPU, MANY) as workers:
        results = workers.run(jobs())
        next(results)
        assert len(taken) <= 2 * threads + 1
        results.close()
    assert torch.get_num_threads() == threads


def test_an_error_reaches_the_caller_and_leaves_nothing_behind(threads):
    def fail():
        raise ValueError("no such tile")

    with pytest.raises(ValueError, match="no such tile"), Workers(CPU, MANY) as workers:
        list(workers.run([lambda: None, fail, lambda: None]))
    assert torch.get_num_threads() == threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ninokit")]


def test_other_threads_keep_their_operators_threads(threads):
    """Also those whose first operator comes while jobs run."""

    def operators_threads() -> int:
        found = []
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
        return found[0]

    with Workers(CPU, MANY) as workers:
        results = workers.run([lambda: None] * 20)
        next(results)
        assert operators_threads() == threads
        results.close()
    assert operators_threads() == threads


def test_plain_mode_in_whatever_mode_the_caller_is():
    left, right = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), plain_mode(CPU):
        product = left @ right
    assert (product.dtype, product.is_inference(), product.requires_grad) == (torch.float32, False, False)


def test_the_pool_runs_jobs_in_plain_mode():
    """Whatever mode the caller is in: modes are each thread's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    left, right = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), Workers(CPU, MANY) as workers:
        products = list(workers.run([lambda: left @ right] * 6))
    torch.set_num_threads(before)
    for product in products:
        assert (product.dtype, product.is_inference(), product.requires_grad) == (torch.float32, False, False)


def test_a_thread_that_can_not_start_leaves_no_other_waiting(monkeypatch):
    before = torch.get_num_threads()
    start, started = threading.Thread.start, []

    def refuse_the_second(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    torch.set_num_threads(3)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_the_second)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Workers(CPU, MANY)
    started[0].join(timeout=10)
    assert not started[0].is_alive()
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_an_accelerator_has_one_thread(threads):
    with Workers(torch.device("meta"), MANY) as workers:
        assert workers.threads == 1
        assert list(workers.run([threading.get_ident])) == [threading.get_ident()]


@pytest.mark.parametrize(("edges", "expected"), [(0, 1), (2**14, 1), (2**15 - 1, 1), (2**15, 2), (2**20, 3)])
def test_few_edges_get_few_threads(edges, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with Workers(CPU, edges) as workers:
        found = set(workers.run([threading.get_ident] * 20))
    torch.set_num_threads(before)
    assert workers.threads == expected
    assert (found == {threading.get_ident()}) == (expected == 1)
