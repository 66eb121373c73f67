"""Another configuration while nodes pull: nobody notices, and a broken one changes nothing."""

import asyncio
import functools
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme

from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, REWRITES, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.operate.program import PASSWORDS, Program

RELOADS = 50
CLIENTS = 4
BROKEN = "version: 1\nregistries: {reg.example: {endpoint: []}}\n"


@dataclass(slots=True)
class Load:
    """What nodes got while they pulled."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@asynccontextmanager
async def load(node: NodeClient, image: Image) -> AsyncIterator[Load]:
    """Nodes that pull the image again and again, until the end of the block."""
    seen, ended = Load(), asyncio.Event()
    targets = [manifest(), manifest(image.digest), *(blob(digest) for digest in image.blobs)]

    async def pull() -> None:
        for target in itertools.cycle(targets):
            if ended.is_set():
                return
            got = await node.get(target)
            seen.answered += 1
            if got.status != 200 or not got.whole:
                seen.failed.append(f"{target}: {got.status} {got.reason}")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(pull())
        try:
            yield seen
        finally:
            ended.set()


def changes(program: Program, other: ScriptedRegistry) -> Iterator[Callable[[], None]]:
    """A rule changed, a secret rotated, an endpoint added and taken away, a host's settings changed; over and over."""
    entry: dict[str, Any] = program.document["registries"][REG]

    def rule(number: int) -> None:
        program.document["registries"][REG] = {
            **entry,
            "rewrites": [{"pattern": f"^other{number}/(.+)$", "replacement": "team/$1"}, *REWRITES],
        }

    def secret(number: int) -> None:
        program.password.write_text(PASSWORDS[number % 2])
        program.host()["maxConnections"] = 16 + number

    def endpoint(number: int) -> None:
        urls = [program.origin, other.url] if number % 2 else [program.origin]
        program.document["registries"][REG] = {**entry, "endpoints": urls}

    def access(number: int) -> None:
        program.document["access"] = [{"action": "allow", "repositories": ["library/**", f"other{number}/**"]}]

    for number, change in enumerate(itertools.cycle((rule, secret, endpoint, access))):
        yield lambda change=change, number=number: change(number)  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_fifty_reloads_under_load_fail_no_request(program: Program, image: Image, workers: int) -> None:
    await program.start(workers)
    async with ScriptedRegistry([image]) as other, load(program.node, image) as seen:
        for number, change in zip(range(RELOADS), changes(program, other), strict=False):
            is_broken = number % 5 == 4
            if not is_broken:
                change()
            good, broken = await program.reloads()
            program.write(BROKEN if is_broken else program.document)
            program.hang_up()
            await program.until(functools.partial(_reached, program, good + (not is_broken), broken + is_broken))
    assert seen.failed == []
    assert seen.answered >= RELOADS
    assert (await program.node.get(manifest())).status == 200


async def _reached(program: Program, good: float, broken: float) -> bool:
    done, failed = await program.reloads()
    return done >= good and failed >= broken


async def test_a_changed_file_is_noticed_without_a_signal(program: Program) -> None:
    await program.start()
    assert (await program.node.get(manifest(registry="new.example"))).status == 403
    program.document["registries"]["new.example"] = program.document["registries"][REG]
    program.write(program.document)
    await program.until(lambda: _answers(program, manifest(registry="new.example"), 200))


async def test_a_broken_file_changes_nothing_and_says_where_it_is_broken(program: Program) -> None:
    await program.start()
    program.write(BROKEN)
    program.hang_up()
    await program.until(lambda: _reached(program, 0, 1))
    assert (await program.metrics())["scope_proxy_config_last_reload_successful"] == 0
    assert (await program.node.get(manifest())).status == 200
    assert f"{program.config}:2:28" in program.log()
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _reached(program, 1, 1))
    assert (await program.metrics())["scope_proxy_config_last_reload_successful"] == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_changes_while_the_program_starts_is_taken(program: Program, workers: int) -> None:
    program.document["workers"] = workers
    program.document["access"] = [{"action": "deny"}]
    fresh = program.config.with_suffix(".fresh")
    fresh.write_text(json.dumps(program.document))
    del program.document["access"]
    await program.start(workers, [sys.executable, "-m", "tests.operate.changing", str(program.config), str(fresh)])
    await program.until(lambda: _answers(program, manifest(), 403))
    assert (await program.node.get(manifest())).code == "DENIED"


async def test_taken_away_is_taken_away_at_once(program: Program) -> None:
    await program.start()
    assert (await program.node.get(manifest())).status == 200
    program.document["access"] = [{"action": "deny"}]
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _answers(program, manifest(), 403))


@pytest.mark.slow
async def test_a_file_that_comes_late_is_taken_without_another_change(program: Program) -> None:
    await program.start()
    late = program.config.parent / "late.crt"
    program.host()["tls"] = {"caFile": str(late)}
    program.write(program.document)
    await program.until(lambda: _reached(program, 0, 1))
    trustme.CA().cert_pem.write_to_path(str(late))
    await program.until(lambda: _reached(program, 1, 1))
    assert (await program.metrics())["scope_proxy_config_last_reload_successful"] == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_would_keep_it_from_starting_is_not_put_in_force(program: Program, workers: int) -> None:
    await program.start(workers)
    missing = program.config.parent / "missing"
    tls = {"certFile": str(missing), "keyFile": str(missing)}
    program.document["listeners"] = [*program.document["listeners"], {"address": "127.0.0.1:1", "tls": tls}]
    program.document["access"] = [{"action": "deny"}]
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _ended(program))
    assert (await program.reloads())[0] == 0
    assert (await program.node.get(manifest())).status == 200
    assert f"listeners[1].tls.certFile: cannot read {missing}: No such file or directory" in program.log()


async def test_what_needs_a_restart_is_named(program: Program) -> None:
    await program.start()
    program.document["listeners"] = [*program.document["listeners"], {"address": "127.0.0.1:1"}]
    program.document["workers"] = 2
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _reached(program, 1, 0))
    assert "take effect only after a restart: workers, listeners[127.0.0.1:1]" in program.log()
    assert (await program.node.get(manifest())).status == 200


async def test_a_download_in_flight_goes_on_over_a_reload(program: Program, registry: ScriptedRegistry) -> None:
    content = Generated(8 * MIB + 5, seed=41)
    digest = registry.add_blob("team/app", content).digest
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on("GET", "blob").with_header("Authorization"), Stall(MIB, until, reached))
    await program.start()
    async with asyncio.TaskGroup() as tasks:
        pull = tasks.create_task(program.node.get(blob(digest), keep_body=False))
        await reached.wait()
        program.host()["maxConnections"] = 8  # another engine: nothing of the old one is taken over
        program.write(program.document)
        program.hang_up()
        await program.until(lambda: _reached(program, 1, 0))
        follower = tasks.create_task(program.node.get(blob(digest), keep_body=False))
        until.set()
    assert {(task.result().status, task.result().sha256) for task in (pull, follower)} == {(200, digest)}
    assert [call.status for call in registry.record.of("blob", "GET")] == [401, 200]


async def _ended(program: Program) -> bool:
    """Whether a reload has ended, well or not."""
    return sum(await program.reloads()) >= 1


async def _answers(program: Program, target: str, status: int) -> bool:
    return (await program.node.get(target)).status == status


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_changes_which_requests_are_logged(program: Program, workers: int) -> None:
    await program.start(workers)
    assert (await program.node.get(manifest())).status == 200
    await program.until(lambda: _logged(program, 1))
    program.document["log"] = {"access": "denied"}
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _says(program, "reloaded the configuration", workers))
    assert (await program.node.get(manifest())).status == 200
    assert (await program.node.get(manifest(registry="new.example"))).status == 403
    await program.until(lambda: _logged(program, 2))
    assert [entry["status"] for entry in _access(program)] == [200, 403]


def _access(program: Program) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in program.log().splitlines() if '"proxy.access"' in line]
    return [entry for entry in entries if "status" in entry]


async def _logged(program: Program, count: int) -> bool:
    return len(_access(program)) >= count


async def _says(program: Program, text: str, times: int) -> bool:
    return program.log().count(text) >= times
