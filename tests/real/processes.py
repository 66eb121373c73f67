"""Start real programs, wait until they answer, end them by their own process id."""

import contextlib
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

START_TIMEOUT = 60.0  # seconds; a cold start takes about one
STOP_TIMEOUT = 30.0  # seconds between SIGTERM and SIGKILL
PROBE_TIMEOUT = 10.0
PROBE_PAUSE = 0.02
LOG_TAIL = 4000  # characters of a program's output that a failure shows
RUN_TIMEOUT = 100.0  # below that of a test, so that a failure shows the output
FIRST_PORT, LAST_PORT = 20_000, 32_000  # below the range that the kernel gives to outgoing connections
PORT_TRIES = 100


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every program: ours without forward proxies, which must not see loopback traffic."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | dict(extra or {})


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A short directory (a socket's path has at most 107 bytes) that is removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    for _ in range(PORT_TRIES):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port found in {PORT_TRIES} tries between {FIRST_PORT} and {LAST_PORT}")


def run(
    arguments: Sequence[str],
    *,
    timeout: float = RUN_TIMEOUT,
    env: Mapping[str, str] | None = None,
    typed: str | None = None,
) -> "Outcome":
    """Run a command to its end, at most `timeout` seconds; `typed` is its standard input."""
    done = subprocess.run(
        arguments,
        input=typed,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=environment(env),
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class Outcome:
    """How a command ended: its exit status and what it wrote."""

    def __init__(self, status: int, output: str, errors: str) -> None:
        self.status = status
        self.output = output
        self.errors = errors

    def checked(self) -> str:
        """The output; AssertionError with the program's own words when it failed."""
        assert self.status == 0, f"exit status {self.status}: {self.errors or self.output}"
        return self.output


class Process:
    """A server program with its output in a file."""

    def __init__(
        self, arguments: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.name = Path(arguments[0]).name
        self.log_file = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(env), cwd=cwd
            )
        self.pid = self._child.pid

    def wait_ready(self, ready: Callable[[], bool], timeout: float = START_TIMEOUT) -> None:
        """Return when `ready` says so; RuntimeError with the log when it ends first or takes too long."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._child.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready after {timeout:g} s:\n{self.log()}")
            time.sleep(PROBE_PAUSE)

    def log(self) -> str:
        """The last part of what the program wrote."""
        return self.log_file.read_text(errors="replace")[-LOG_TAIL:]

    def send(self, number: int) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._child.poll() is not None

    def wait(self, timeout: float) -> int:
        """Its exit status, once it has ended; subprocess.TimeoutExpired where it does not in so many seconds."""
        return self._child.wait(timeout)

    def stop(self) -> int:
        """End the program and give its exit status."""
        self._child.terminate()
        try:
            return self._child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait(STOP_TIMEOUT)


def answers(url: str, *statuses: int) -> bool:
    """Whether a GET of `url` is answered with one of the statuses."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PROBE_TIMEOUT) as response:
            return response.status in statuses
    except urllib.error.HTTPError as error:
        with error:
            return error.code in statuses
    except (OSError, http.client.HTTPException):
        return False
