"""Several workers: one that takes another's place serves by the same rules, and no signal is lost between them."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import basic
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.operate.program import Program
from tests.real.processes import free_port

pytestmark = pytest.mark.slow

TIMES = 12
"""Requests that reach both workers, as surely as the kernel's choice allows."""


async def statuses(address: str, *headers: tuple[str, str], registry: str = REG) -> set[int]:
    """The responses of an address to a few requests on new connections."""
    node = NodeClient(address, may_be_challenged=True)
    return {(await node.get(manifest(registry=registry), *headers)).status for _ in range(TIMES)}


async def replaced(program: Program) -> None:
    """Kill the workers one by one and wait for their successors."""
    for pid in program.workers():
        os.kill(pid, signal.SIGKILL)
        await program.until(lambda pid=pid: _has_others(program, pid))


async def _has_others(program: Program, ended_worker: int) -> bool:
    workers = await asyncio.to_thread(program.workers)
    return len(workers) == 2 and ended_worker not in workers and await _answers(program)


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
    assert f"{program.address} is no longer" in program.log()
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
    assert "a worker cannot start" not in program.log()


async def _all_deny(program: Program) -> bool:
    """Each worker reads the configuration by itself, one a little later than the other."""
    return await statuses(program.address) == {403}


async def test_tls_files_that_a_reload_adds_cause_no_second_reload(program: Program, tmp_path: Path) -> None:
    await program.start(workers=2)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    program.host()["tls"] = {"caFile": str(tmp_path / "ca.crt")}
    program.write(program.document)
    await looked(program)
    await program.until(lambda: _reloaded(program))
    await looked(program)
    program.document["registries"]["new.example"] = program.document["registries"][REG]
    program.write(program.document)
    await looked(program)
    await program.until(lambda: _all_know(program, "new.example"))
    assert program.log().count("reloaded the configuration") == 2 * 2


async def looked(program: Program) -> None:
    """Have the parent look at the files now, as it does every 2 s, and wait until it waits again."""
    before = _waits(program.running.pid)
    program.running.send(signal.SIGALRM)
    await program.until(lambda: asyncio.to_thread(lambda: _waits(program.running.pid) > before))


def _waits(pid: int) -> int:
    """How often a process has begun to wait for something."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


async def _all_know(program: Program, registry: str) -> bool:
    return await statuses(program.address, registry=registry) == {200}


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
    return program.log().count("shutting down") == 2


async def test_a_stop_while_workers_are_forked_ends_all_of_them(program: Program, tmp_path: Path) -> None:
    process = program.launch(8, [sys.executable, "-m", "tests.operate.forking", "stop", str(tmp_path / "none")])
    started: set[int] = set()

    async def has_ended_or_started_others() -> bool:
        with contextlib.suppress(OSError):
            started.update(await asyncio.to_thread(program.workers))
        return process.has_ended() or len(started) > 1

    await program.until(has_ended_or_started_others)
    assert len(started) <= 1, "further workers were started after SIGTERM"
    assert await program.ended() == 0


async def test_a_worker_whose_parent_died_before_it_looked_ends(program: Program, tmp_path: Path) -> None:
    noted = tmp_path / "worker"
    program.launch(2, [sys.executable, "-m", "tests.operate.forking", "orphan", str(noted)])
    await program.until(lambda: asyncio.to_thread(lambda: noted.exists() and noted.read_text() != ""))
    worker = int(noted.read_text())

    async def has_ended_or_serves() -> bool:
        return await asyncio.to_thread(lambda: not _runs(worker) or program.serves())

    try:
        await program.until(has_ended_or_serves)
        assert not await asyncio.to_thread(_runs, worker), "an orphan serves"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    assert await program.ended() == -signal.SIGKILL


def _runs(pid: int) -> bool:
    """Whether a process runs, and is not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
