"""Several workers: one that takes another's place serves by the same rules, and no signal is lost between them."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import bcrypt

from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import basic
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.operate.program import Program
from tests.real.processes import free_port

TIMES = 12
"""Requests that reach both workers, as surely as the kernel's choice allows."""


async def statuses(address: str, *headers: tuple[str, str]) -> set[int]:
    """What an address answers, asked a few times on new connections."""
    node = NodeClient(address, may_be_asked=True)
    return {(await node.get(manifest(), *headers)).status for _ in range(TIMES)}


async def replaced(program: Program) -> None:
    """Kill the workers one by one and wait for their successors."""
    for pid in program.workers():
        os.kill(pid, signal.SIGKILL)
        await program.until(lambda pid=pid: _has_others(program, pid))


async def _has_others(program: Program, gone: int) -> bool:
    workers = await asyncio.to_thread(program.workers)
    return len(workers) == 2 and gone not in workers and await _answers(program)


async def _answers(program: Program) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return "scope_proxy_config_last_reload_successful" in await program.metrics()
    return False


async def test_listeners_in_another_order_keep_their_own_rules(program: Program, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'canary-alice', bcrypt.gensalt(4)).decode()}\n")
    guarded = f"127.0.0.1:{free_port()}"
    listeners = [
        *program.document["listeners"],
        {"address": guarded, "clients": {"auth": "basic", "htpasswdFile": str(users)}},
    ]
    program.document["listeners"] = listeners
    await program.start(workers=2)
    program.document["listeners"] = listeners[::-1]
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _reloaded(program))
    await replaced(program)
    assert await statuses(program.address) == {200}
    assert await statuses(guarded) == {401}
    assert await statuses(guarded, ("Authorization", f"Basic {basic('alice', 'canary-alice')}")) == {200}


async def _reloaded(program: Program) -> bool:
    done, failed = await program.reloads()
    return done + failed >= 2


async def test_a_configuration_without_an_open_address_is_not_put_in_force(program: Program) -> None:
    await program.start(workers=2)
    program.document["listeners"] = [{"address": f"127.0.0.1:{free_port()}"}]
    program.document["access"] = [{"action": "deny"}]
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _failed(program))
    assert await statuses(program.address) == {200}
    await replaced(program)
    assert await statuses(program.address) == {200}
    assert f"{program.address} is no longer among the listeners" in program.log()
    assert (await program.metrics())["scope_proxy_config_last_reload_successful"] == 0


async def test_a_worker_that_starts_anew_leaves_a_configuration_that_names_a_missing_file(program: Program) -> None:
    await program.start(workers=2)
    program.host()["tls"] = {"caFile": str(program.config.parent / "missing.crt")}
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _failed(program))
    [one, _] = program.workers()
    os.kill(one, signal.SIGKILL)
    await program.until(lambda: _third_started(program))
    assert "a worker cannot start" not in program.log()
    assert await statuses(program.address) == {200}


async def _third_started(program: Program) -> bool:
    """Whether the successor of a worker serves, or could not start."""
    return "a worker cannot start" in program.log() or program.log().count("listens on") == 3


async def _failed(program: Program) -> bool:
    _, failed = await program.reloads()
    return failed >= 2


async def test_a_reload_while_a_worker_starts_reaches_it(program: Program) -> None:
    await program.start(workers=2)
    program.document["access"] = [{"action": "deny"}]
    [one, _] = program.workers()
    os.kill(one, signal.SIGKILL)
    await program.until(lambda: _has_others(program, one))
    program.write(program.document)
    program.hang_up()
    await program.until(lambda: _all_deny(program))


async def _all_deny(program: Program) -> bool:
    """Each worker reads the configuration by itself, one a little later than the other."""
    return await statuses(program.address) == {403}


async def test_one_signal_for_the_whole_group_cuts_no_pull(program: Program, registry: ScriptedRegistry) -> None:
    digest = registry.add_blob(UPSTREAM, Generated(4 * MIB, seed=81)).digest
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on("GET", "blob").with_header("Authorization"), Stall(MIB, until, reached))
    await program.start(workers=2)
    async with asyncio.TaskGroup() as tasks:
        pull = tasks.create_task(program.node.get(blob(digest), keep_body=False))
        await reached.wait()
        for pid in (*program.workers(), program.running.pid):  # as systemd and Ctrl-C do
            os.kill(pid, signal.SIGTERM)
        await program.until(lambda: _stops(program))
        until.set()
    assert (pull.result().status, pull.result().sha256) == (200, digest)
    assert await program.ended() == 0


async def _stops(program: Program) -> bool:
    return program.log().count("stopping") == 2
