"""A disk of the cache that hangs: a FUSE file system whose server is stopped, so that each call on it waits."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import bcrypt
import pytest

from proxy.auth.inward.watched_file import LOOK_SECONDS
from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import basic
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.proxy import UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.operate.program import Program
from tests.real.processes import Process, free_port, scratch
from tests.real.programs import require

pytestmark = pytest.mark.slow

CLIENTS = 12
"""More than there are threads for lookups."""
HEADER = ("Authorization", f"Basic {basic('alice', 'canary-alice')}")
LARGE = Generated(6 * MIB + 7, seed=131)
STORED = Generated(5 * MIB + 7, seed=132)


class Disk:
    """A directory on a disk that can hang."""

    def __init__(self, path: Path, server: Process) -> None:
        self.path = path
        self._server = server

    def hang(self) -> None:
        """Have every call wait."""
        self._server.send(signal.SIGSTOP)

    def recover(self) -> None:
        """Have every call go on."""
        self._server.send(signal.SIGCONT)


@pytest.fixture
def disk() -> Iterator[Disk]:
    require("bindfs", root=True)
    with scratch("disk") as directory:
        below, mounted = directory / "below", directory / "mounted"
        for path in (below, mounted):
            path.mkdir()
        server = Process(["bindfs", "-f", str(below), str(mounted)], log=directory / "log")
        try:
            server.wait_ready(lambda: os.path.ismount(mounted))
            yield Disk(mounted, server)
        finally:
            server.send(signal.SIGCONT)
            subprocess.run(["umount", "--lazy", str(mounted)], check=True, timeout=WITHIN)
            server.stop()


@pytest.fixture
async def hanging(
    disk: Disk, program: Program, registry: ScriptedRegistry, image: Image, tmp_path: Path
) -> AsyncIterator[Disk]:
    """A proxy that has stored the image and a large blob, and whose disk hangs since."""
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'canary-alice', bcrypt.gensalt(4)).decode()}\n")
    guarded = {"address": f"127.0.0.1:{free_port()}", "clients": {"auth": "basic", "htpasswdFile": str(users)}}
    program.document["listeners"].append(guarded)
    program.document["cache"]["path"] = str(disk.path / "cache")
    await program.start()
    stored = registry.add_blob(UPSTREAM, STORED).digest
    for target in (manifest(), blob(layer_of(image)[0]), blob(stored)):
        await program.node.get(target)
        assert (await program.node.get(target)).header("X-Cache") == "hit"
    disk.hang()
    try:
        yield disk
    finally:
        disk.recover()


async def answers(node: NodeClient, target: str, *headers: tuple[str, str], clients: int = CLIENTS) -> list[Got]:
    """The answers to as many clients at once; those that hang are left out."""

    async def get() -> Got | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WITHIN):
                return await node.get(target, *headers)
        return None

    return [got for got in await asyncio.gather(*(get() for _ in range(clients))) if got is not None]


@pytest.mark.usefixtures("hanging")
async def test_pulls_pass_a_disk_that_hangs(program: Program, registry: ScriptedRegistry, image: Image) -> None:
    digest, layer = layer_of(image)
    other = registry.add_blob(UPSTREAM, LARGE).digest
    for _ in range(2):
        assert [(got.status, got.body) for got in await answers(program.node, manifest())] == [
            (200, image.manifest)
        ] * CLIENTS
        assert [(got.status, got.body) for got in await answers(program.node, blob(digest))] == [(200, layer)] * CLIENTS
        assert [(got.status, got.sha256) for got in await answers(program.node, blob(other))] == [
            (200, other)
        ] * CLIENTS


@pytest.mark.usefixtures("hanging")
async def test_passwords_and_names_are_looked_up_while_the_disk_hangs(program: Program, image: Image) -> None:
    guarded = NodeClient(program.document["listeners"][1]["address"], may_be_challenged=True)
    async with asyncio.TaskGroup() as tasks:
        pulls = [tasks.create_task(answers(program.node, target)) for target in (manifest(), blob(layer_of(image)[0]))]
        logins = tasks.create_task(answers(guarded, "/v2/", HEADER, clients=1))
    assert [got.status for got in logins.result()] == [200]
    assert [len(pull.result()) for pull in pulls] == [CLIENTS] * 2


LOOKS = 6
"""Times that the files would have been looked at."""


async def test_files_by_which_clients_are_known_cost_one_thread_while_their_disk_hangs(
    disk: Disk, program: Program
) -> None:
    users, keys = disk.path / "users", disk.path / "keys"
    users.write_text(f"alice:{bcrypt.hashpw(b'canary-alice', bcrypt.gensalt(4)).decode()}\n")
    keys.write_text("canary-key-of-many-characters-0123456789\n")
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    tokens = {"challenge": "bearer", "externalURL": "https://proxy.example", "tokenKeyFile": str(keys)}
    program.document["listeners"] += [
        {"address": addresses[0], "clients": {"auth": "basic", "htpasswdFile": str(users)}},
        {"address": addresses[1], "clients": {"auth": "upstream", **tokens}},
    ]
    await program.start()
    by_password, by_token = (NodeClient(address, may_be_challenged=True) for address in addresses)
    for node, target in ((by_password, "/v2/"), (by_token, "/token?service=proxy.example")):
        assert [got.status for got in await answers(node, target, HEADER, clients=1)] == [200]
    disk.hang()
    try:
        before = threads(program)
        for _ in range(LOOKS):
            started = asyncio.get_running_loop().time()
            got = await asyncio.gather(
                answers(by_password, "/v2/", HEADER), answers(by_token, "/token?service=proxy.example", HEADER)
            )
            assert [one.status for some in got for one in some] == [200] * CLIENTS * 2
            while asyncio.get_running_loop().time() < started + LOOK_SECONDS:
                assert (await program.node.get("/v2/")).status == 200
        assert threads(program) <= before + 2, "each look takes a thread"
    finally:
        disk.recover()


def threads(program: Program) -> int:
    """How many threads the program has."""
    return len(list(Path(f"/proc/{program.running.pid}/task").iterdir()))


@pytest.mark.usefixtures("hanging")
async def test_clients_that_leave_free_their_handlers(program: Program, registry: ScriptedRegistry) -> None:
    stored = registry.add_blob(UPSTREAM, STORED).digest

    async def leave(target: str) -> None:
        async with program.node.opened("GET", target):
            await program.until(lambda: _some_in_flight(program))

    await asyncio.gather(*(leave(blob(stored)) for _ in range(CLIENTS)))
    with contextlib.suppress(TimeoutError):
        await program.until(lambda: _none_in_flight(program))
    assert await _in_flight(program) == 0, "handlers wait for clients that have left, or there is no telling"


async def _in_flight(program: Program) -> float | None:
    """Requests in flight; None where nobody tells."""
    try:
        found = await program.metrics()
    except OSError:  # a time-out is one
        return None
    return sum(value for name, value in found.items() if name.startswith("scope_proxy_http_requests_in_flight"))


async def _some_in_flight(program: Program) -> bool:
    return await _in_flight(program) != 0


async def _none_in_flight(program: Program) -> bool:
    return await _in_flight(program) == 0


async def test_a_disk_that_answers_again_is_used_again(hanging: Disk, program: Program, image: Image) -> None:
    digest = layer_of(image)[0]
    await answers(program.node, blob(digest))
    hanging.recover()
    await program.until(lambda: _hits(program, digest))
    assert (await program.node.get(blob(digest))).header("X-Cache") == "hit"
    assert (await program.node.get(manifest())).header("X-Cache") == "hit"


async def _hits(program: Program, digest: str) -> bool:
    return (await program.node.get(blob(digest))).header("X-Cache") == "hit"
