"""The CPU time and the memory of a server are those of all its processes."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.process import Started

WAIT_SECONDS = 30.0
WORKERS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
burn = "import time\\nwhile time.process_time() < 0.3: pass\\n"
subprocess.run([sys.executable, "-c", burn])
worker = subprocess.Popen([sys.executable, "-c", burn + "print('ready', flush=True)\\ntime.sleep(100)"])
try:
    time.sleep(100)
finally:
    worker.kill()
"""
ENDED_WORKER = """
import os, time
worker = os.fork()
if worker == 0:
    os._exit(0)
os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)  # it stays in the list of processes
print("ready", flush=True)
time.sleep(100)
"""


@contextmanager
def server(directory: Path, program: str) -> Iterator[Started]:
    """A server that runs this Python program, once that has printed a line."""
    log = directory / "log"
    started = Started.start([sys.executable, "-c", program], log)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while log.read_text() != "ready\n":
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield started
    finally:
        started.stop()


def test_cpu_time_of_a_running_and_of_an_ended_worker_counts(tmp_path: Path) -> None:
    with server(tmp_path, WORKERS) as started:
        assert started.cpu_seconds() >= 0.5  # of 0.6: the kernel gives whole ticks


def test_a_worker_that_has_ended_has_no_resident_memory(tmp_path: Path) -> None:
    with server(tmp_path, ENDED_WORKER) as started:
        assert started.resident_mib() > 0


def test_a_server_that_has_ended_has_no_resident_memory(tmp_path: Path) -> None:
    with server(tmp_path, ENDED_WORKER) as started:
        pass
    assert (started.cpu_seconds(), started.resident_mib()) == (0, 0)
