"""Metrics and health at a second address, without the status page: of workers, at a reload, and while it stops."""

import asyncio
import json

import pytest

from tests.crash.program import fetch
from tests.fakes.blobs import MIB, Generated
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.operate.program import Program
from tests.real.processes import answers, free_port

pytestmark = pytest.mark.slow

PULLS = 12
"""Requests that reach both workers, as surely as the kernel's choice allows."""


@pytest.fixture
def second(program: Program) -> str:
    """The second address of a program that is not yet started."""
    address = f"127.0.0.1:{free_port()}"
    program.document["admin"]["metricsAddress"] = address
    return address


async def has(address: str, path: str, status: int = 200) -> bool:
    return await asyncio.to_thread(answers, f"http://{address}{path}", status)


def request_series(page: str) -> list[str]:
    """The series of requests for manifests."""
    return [line for line in page.splitlines() if line.startswith("scope_proxy_http_requests_total") and "200" in line]


@pytest.mark.parametrize("workers", [1, 2])
async def test_both_addresses_tell_the_same_of_all_workers(program: Program, second: str, workers: int) -> None:
    await program.start(workers)
    assert {(await program.node.get(manifest())).status for _ in range(PULLS)} == {200}
    first, other = [
        request_series(await asyncio.to_thread(fetch, f"http://{address}/metrics"))
        for address in (program.admin, second)
    ]
    assert first == other
    assert f'scope_proxy_http_requests_total{{code="200",route="manifest"}} {PULLS}.0' in other
    assert [await has(second, path) for path in ("/healthz", "/readyz")] == [True, True]


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_status_page_is_at_the_first_address_alone(program: Program, second: str, workers: int) -> None:
    await program.start(workers)
    for path in ("/status", "/status.json"):
        assert await has(program.admin, path)
        for _ in range(PULLS):
            assert await has(second, path, 404)
    assert f"metrics and health on {second}" in program.log()


@pytest.mark.parametrize("workers", [1, 2])
async def test_both_addresses_say_that_it_stops(
    program: Program, second: str, registry: ScriptedRegistry, workers: int
) -> None:
    digest = registry.add_blob(UPSTREAM, Generated(4 * MIB, seed=91)).digest
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on("GET", "blob").with_header("Authorization"), Stall(MIB, until, reached))
    await program.start(workers)
    async with asyncio.TaskGroup() as tasks:
        pull = tasks.create_task(program.node.get(blob(digest), keep_body=False))
        await reached.wait()
        program.terminate()
        for address in (program.admin, second):
            await program.until(lambda address=address: has(address, "/readyz", 503))
            assert await has(address, "/healthz")
        until.set()
    assert (pull.result().status, pull.result().sha256) == (200, digest)
    assert await program.ended() == 0


async def test_another_second_address_needs_a_restart_and_the_status_page_says_so(
    program: Program, second: str
) -> None:
    await program.start()
    other = f"127.0.0.1:{free_port()}"
    program.document["admin"]["metricsAddress"] = other
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: reloaded(program))
    assert await waiting(program) == ["admin"]
    assert [await has(second, "/readyz"), await has(other, "/readyz")] == [True, False]
    await program.stop()
    await program.start()
    assert [await has(second, "/readyz"), await has(other, "/readyz")] == [False, True]


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_address_of_the_command_line_outlives_a_reload(program: Program, workers: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    await program.start(workers, arguments=("--metrics", f"[127.0.0.1]:{address.rpartition(':')[2]}"))
    program.document["access"] = [{"action": "deny"}]
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: reloaded(program, workers))
    assert await has(address, "/metrics")
    assert await waiting(program) == []


async def waiting(program: Program) -> list[str]:
    """The settings that need a restart, as the status page has them."""
    page = json.loads(await asyncio.to_thread(fetch, f"http://{program.admin}/status.json"))
    found: list[str] = page["waiting"]
    return found


async def reloaded(program: Program, workers: int = 1) -> bool:
    done, _ = await program.reloads()
    return done >= workers
