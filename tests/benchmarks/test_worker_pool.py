"""Processes that share work."""

import signal
import subprocess
import sys
import time

import psutil

from ninokit.benchmarks.workers import end_with_parent

CODE = """
import os, time
from multiprocessing.managers import SyncManager
from ninokit.benchmarks.workers import end_with_parent, worker_pool

manager = SyncManager()
manager.start(end_with_parent)
with worker_pool(2) as pool:
    workers = [pool.submit(os.getpid) for _ in range(8)]
    print(*{worker.result() for worker in workers}, manager._process.pid, flush=True)
    pool.submit(time.sleep, 60), pool.submit(time.sleep, 60)
    time.sleep(60)
"""


def is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE  # which nobody may ever collect
    except psutil.NoSuchProcess:
        return False


def test_workers_end_when_the_process_that_started_them_is_killed():
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True) as parent:
        children = [int(process) for process in parent.stdout.readline().split()]
        assert len(children) >= 2
        assert all(map(is_alive, children))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_nobody_started_goes_on():
    end_with_parent()
