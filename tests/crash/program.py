"""The program as a subprocess that can be killed, and started again on the same cache and port."""

import asyncio
import json
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.crash.origin import Thing
from tests.fakes.proxy import settings
from tests.real.processes import PROBE_PAUSE, PROBE_TIMEOUT, START_TIMEOUT, Outcome, Process, answers, free_port, run
from tests.real.proxy_process import PROJECT_ROOT

PROGRAM = (sys.executable, "-m", "proxy")
LIMITED = ("/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"')
NO_RESERVE = "1Ki"
PAGE_LIMIT = 1024 * 1024


def fetch(url: str) -> str:
    """A page of the operator's port."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PROBE_TIMEOUT) as response:
        return str(response.read(PAGE_LIMIT).decode())


class Program:
    """`python -m proxy serve` with one listener, one registry and a cache."""

    def __init__(
        self, directory: Path, origin: str, cache_directory: Path, cache: Mapping[str, object], workers: int = 1
    ) -> None:
        self.cache_directory = cache_directory
        self.address, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._directory = directory
        self._workers = workers
        self._process: Process | None = None
        document = settings(
            [origin],
            listeners=[{"address": self.address}],
            admin={"address": self.admin},
            workers=workers,
            cache={"path": str(cache_directory), "reserveFree": NO_RESERVE, **cache},
            log={"level": "warning"},
        )
        self._config = directory / "config.yaml"
        self._config.write_text(json.dumps(document))  # JSON is YAML

    async def start(self, *, open_files: int | None = None) -> None:
        """Start it, with at most so many open files, and wait until all of it serves."""
        limited = () if open_files is None else (*LIMITED, str(open_files))
        command = [*limited, *PROGRAM, "serve", "--config", str(self._config)]
        process = self._process = Process(command, log=self._directory / "log", cwd=PROJECT_ROOT)
        await asyncio.to_thread(process.wait_ready, lambda: answers(f"http://{self.address}/v2/", 200))
        if self._workers > 1:
            await self.until(lambda: len(self.workers()) == self._workers)

    def kill(self) -> None:
        """`kill -9`."""
        self.running.send(signal.SIGKILL)

    async def stop(self) -> int | None:
        """End it, if it has not ended; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        status = await asyncio.to_thread(process.stop)
        sys.stderr.write(f"--- the proxy's log ---\n{process.log()}")  # pytest shows it when the test fails
        return status

    @property
    def running(self) -> Process:
        """The process."""
        assert self._process is not None, "the program is not started"
        return self._process

    def log(self) -> str:
        """The last part of what it wrote, in all its lives."""
        return (self._directory / "log").read_text(errors="replace")[-20_000:]

    def workers(self) -> list[int]:
        """The processes of its workers."""
        listed = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text()
        return [int(text) for text in listed.split()]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that shows from outside only."""
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"not in time; the log ends so:\n{self.log()}"
            await asyncio.sleep(PROBE_PAUSE)

    async def command(self, *arguments: str) -> Outcome:
        """Run `scope-proxy cache ...` with its configuration."""
        return await asyncio.to_thread(run, [*PROGRAM, "cache", *arguments, "--config", str(self._config)])

    async def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        page = await asyncio.to_thread(fetch, f"http://{self.admin}/metrics")
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    def stored(self, thing: Thing) -> Path:
        """Where something lies once it is stored."""
        algorithm, _, name = thing.digest.partition(":")
        return self.cache_directory / "blobs" / algorithm / name[:2] / name

    def temporary(self) -> list[str]:
        """Files that no finished write leaves behind: parts, locks, files not yet renamed."""
        ingest = (self.cache_directory / "ingest").iterdir()
        unnamed = (file for file in self.cache_directory.rglob(".*") if file.is_file())
        return sorted(str(file.relative_to(self.cache_directory)) for file in (*ingest, *unnamed))
