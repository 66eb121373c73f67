"""The program as a subprocess whose configuration changes while nodes pull."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Account, Rules
from tests.crash.program import PROGRAM, fetch
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.proxy import UPSTREAM, authority, settings
from tests.fakes.registry import ScriptedRegistry
from tests.real.processes import Process, answers, free_port, scratch
from tests.real.proxy_process import PROJECT_ROOT

USER = "robot"
PASSWORDS = ("canary-first", "canary-second")
"""Both are right: a rotation changes which one is used."""
POLL = 0.05


@pytest.fixture
def image() -> Image:
    """A small image."""
    return make_image(UPSTREAM, "1")


@pytest.fixture
async def registry(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """A strict registry with two right passwords."""
    accounts = tuple(Account(USER, password) for password in PASSWORDS)
    async with ScriptedRegistry([image], Rules(accounts=accounts)) as server:
        yield server


@pytest.fixture
async def program(registry: ScriptedRegistry) -> AsyncIterator["Program"]:
    """The program in front of the registry, not yet started."""
    with scratch("operate") as directory:
        made = Program(directory, registry.url)
        try:
            yield made
        finally:
            await made.stop()


class Program:
    """`python -m proxy serve`, its configuration and its password file."""

    def __init__(self, directory: Path, origin: str) -> None:
        self.address, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.node = NodeClient(self.address)
        self.origin = origin
        self.config, self.password = directory / "config.yaml", directory / "password"
        self._log = directory / "log"
        self._process: Process | None = None
        self.password.write_text(PASSWORDS[0])
        self.document = settings(
            [origin],
            login={"username": USER, "passwordFile": str(self.password)},
            listeners=[{"address": self.address}],
            admin={"address": self.admin},
            cache={"path": str(directory / "cache"), "reserveFree": "1Ki", "tagAge": "0s"},
            timeouts={"shutdownGrace": "60s", "drainIdle": "1s"},
            log={"level": "info"},
        )
        self.write(self.document)

    def write(self, document: dict[str, Any] | str) -> None:
        """Put another configuration in the place of the file, as a whole."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(document if isinstance(document, str) else json.dumps(document))  # JSON is YAML
        fresh.rename(self.config)

    def host(self) -> dict[str, Any]:
        """The settings of the registry's host."""
        found: dict[str, Any] = self.document["hosts"][authority(self.origin)]
        return found

    async def start(self, workers: int = 1, program: Sequence[str] = PROGRAM, arguments: Sequence[str] = ()) -> None:
        """Start it and wait until it serves."""
        process = self.launch(workers, program, arguments)
        await asyncio.to_thread(process.wait_ready, self.serves)
        if workers > 1:
            await self.until(lambda: asyncio.to_thread(lambda: len(self.workers()) == workers))

    def launch(self, workers: int, program: Sequence[str] = PROGRAM, arguments: Sequence[str] = ()) -> Process:
        """Start it."""
        self.document["workers"] = workers
        self.write(self.document)
        command = [*program, "serve", "--config", str(self.config), *arguments]
        self._process = Process(command, log=self._log, cwd=PROJECT_ROOT)
        return self._process

    def serves(self) -> bool:
        """Whether it answers; blocks."""
        return answers(f"http://{self.admin}/readyz", 200)

    def workers(self) -> list[int]:
        """The processes of its workers."""
        listed = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text()
        return [int(text) for text in listed.split()]

    @property
    def running(self) -> Process:
        """The process."""
        assert self._process is not None, "the program is not started"
        return self._process

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        self.running.send(signal.SIGHUP)

    def terminate(self) -> None:
        """SIGTERM: end when it is quiet."""
        self.running.send(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait until it has ended; its exit status."""
        process, self._process = self.running, None
        return await asyncio.to_thread(process.wait, WITHIN)

    async def stop(self) -> None:
        """End it, if it has not ended."""
        if self._process is not None:
            self.running.send(signal.SIGTERM)
            with contextlib.suppress(ProcessLookupError):
                self.running.send(signal.SIGTERM)  # a second call does not wait
            await asyncio.to_thread(self.running.stop)

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    async def metrics(self) -> dict[str, float]:
        """Every series with its value."""
        page = await asyncio.to_thread(fetch, f"http://{self.admin}/metrics")
        rows = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    async def reloads(self) -> tuple[float, float]:
        """How many configurations were put in force, and how many could not be."""
        found = await self.metrics()
        name = "scope_proxy_config_reloads_total"
        return found.get(f'{name}{{result="ok"}}', 0.0), found.get(f'{name}{{result="failed"}}', 0.0)

    async def until(self, holds: Any) -> None:
        """Wait for something that shows from outside only."""
        async with asyncio.timeout(WITHIN):
            while not await holds():  # noqa: ASYNC110 - see above
                await asyncio.sleep(POLL)
