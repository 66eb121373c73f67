"""Memory that an operator pays for: what a configuration does not ask for is not loaded."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.program import fetch
from tests.real.processes import Process, answers, free_port, run, scratch
from tests.real.proxy_process import PROJECT_ROOT

pytestmark = pytest.mark.slow

NAMED = re.compile(r"^import '([\w.]+)' # ", re.MULTILINE)
"""What `-v` has Python write of every module when it has been loaded."""
PROGRAM = (sys.executable, "-v", "-m", "proxy")
ALWAYS = {"aiohttp", "proxy.server.status.routes", "proxy.store.opened"}
NOT_ALWAYS = {"bcrypt", "cryptography", "jinja2", "opentelemetry", "re2", "rich", "proxy.runtime.logins"}
COMMANDS = {"cache", "check", "convert", "demo", "doctor", "explain", "healthcheck", "node", "prefetch", "serve"}


class Loading:
    """A program with a cache, a plain listener for everybody, and the status page; each module it loads is logged."""

    def __init__(self, directory: Path, **clients: object) -> None:
        self.admin = f"127.0.0.1:{free_port()}"
        self._log = directory / "log"
        config = directory / "config.yaml"
        document = {
            "version": 1,
            "listeners": [{"address": "127.0.0.1:0", "clients": {"auth": "none"} | clients}],
            "admin": {"address": self.admin},
            "registries": {"docker.io": {"endpoints": ["http://127.0.0.1:9"]}},
            "cache": {"path": str(directory / "cache"), "reserveFree": "1Ki"},
        }
        config.write_text(json.dumps(document))
        command = [*PROGRAM, "serve", "--config", str(config)]
        self.process = Process(command, log=self._log, cwd=PROJECT_ROOT)

    async def wait_ready(self) -> None:
        """Wait until it serves."""
        await asyncio.to_thread(self.process.wait_ready, lambda: answers(f"http://{self.admin}/readyz", 200))

    def loaded(self) -> set[str]:
        """The modules that are loaded."""
        return set(NAMED.findall(self._log.read_text(errors="replace")))


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch("loaded") as path:
        yield path


async def test_a_plain_proxy_loads_no_library_that_it_does_not_need(directory: Path) -> None:
    program = Loading(directory)
    try:
        await program.wait_ready()
        loaded = program.loaded()
    finally:
        await asyncio.to_thread(program.process.stop)
    assert loaded >= ALWAYS
    assert loaded & NOT_ALWAYS == set()
    assert loaded & {f"proxy.cli.{name}" for name in COMMANDS} == {"proxy.cli.serve"}


async def test_the_status_page_is_loaded_when_it_is_requested(directory: Path) -> None:
    program = Loading(directory)
    try:
        await program.wait_ready()
        page = await asyncio.to_thread(fetch, f"http://{program.admin}/status")
        loaded = program.loaded()
    finally:
        await asyncio.to_thread(program.process.stop)
    assert page.startswith("<!doctype html>")
    assert "jinja2" in loaded


async def test_passwords_are_loaded_for_a_listener_that_asks_for_them(directory: Path) -> None:
    (directory / "users").write_text(f"alice:$2b$04${'.' * 53}\n")
    program = Loading(directory, auth="basic", htpasswdFile=str(directory / "users"))
    try:
        await program.wait_ready()
        loaded = program.loaded()
    finally:
        await asyncio.to_thread(program.process.stop)
    assert {"bcrypt", "proxy.runtime.logins"} <= loaded


@pytest.mark.parametrize("name", ["explain", "healthcheck"])
def test_a_command_does_not_load_the_others(name: str) -> None:
    outcome = run([*PROGRAM, name, "--help"])
    assert outcome.status == 0
    loaded = set(NAMED.findall(outcome.errors))
    assert loaded & {f"proxy.cli.{other}" for other in COMMANDS} == {f"proxy.cli.{name}"}
    assert "rich" not in loaded
