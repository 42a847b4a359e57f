"""Work on several threads: in order, without gradients, and with torch's settings left alone."""

import threading
import time

import pytest
import torch

from ninokit.nowcasters.workers import Workers

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_jobs(threads):
    def job(index: int):
        return lambda: (time.sleep(0.002 * (index % 3)), index)[1]

    with Workers(CPU) as workers:
        assert list(workers.run(job(index) for index in range(20))) == list(range(20))


def test_jobs_run_without_gradients_on_serial_operators(threads):
    with Workers(CPU) as workers:
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

    with Workers(CPU) as workers:
        results = workers.run(jobs())
        next(results)
        assert len(taken) <= 2 * threads + 1
        results.close()
    assert torch.get_num_threads() == threads


def test_an_error_reaches_the_caller_and_leaves_nothing_behind(threads):
    def fail():
        raise ValueError("no such tile")

    with pytest.raises(ValueError, match="no such tile"), Workers(CPU) as workers:
        list(workers.run([lambda: None, fail, lambda: None]))
    assert torch.get_num_threads() == threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ninokit")]


def test_an_accelerator_has_one_thread(threads):
    with Workers(torch.device("meta")) as workers:
        assert workers.threads == 1
        assert list(workers.run([threading.get_ident])) == [threading.get_ident()]
