"""Clients that do not read: those that hold an upstream's place others wait for are cut, and no others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.pull.blobs.downloads import RECHECK_STEP
from proxy.testbed.images import Image
from tests.cache.serving import eventually
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader, Redirect
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import REG, UPSTREAM, blob, layer_of, metric, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.tls import listener_files

pytestmark = [pytest.mark.security, pytest.mark.slow]

LARGE = Generated(24 * MIB, seed=24)
STORED = Generated(8 * MIB, seed=8)
READER, OTHER = "127.0.0.2", "127.0.0.3"
PLACES = 3
"""What `maxConnections` leaves for blobs."""
HOST = {"maxConnections": 4}
PERIOD = {"slowClient": "600ms"}
FULL = {"reserveFree": "900Ti"}
"""A cache that takes nothing: blobs pass through."""
CUT = "scope_proxy_http_aborted_total"


def cut() -> float:
    return metric(CUT, reason="slow_client")


@dataclass(frozen=True, slots=True)
class Client:
    """A client that has had the head of an answer and reads no more of it until `rest`."""

    reader: asyncio.StreamReader
    size: int

    async def rest(self) -> int:
        """How many bytes of the body still come."""
        found = 0
        async with asyncio.timeout(WITHIN):
            try:
                while found < self.size and (piece := await self.reader.read(1 << 16)):
                    found += len(piece)
            except ConnectionError:
                pass
        return found

    async def is_whole(self) -> bool:
        return await self.rest() == self.size


class Clients:
    """Clients of one proxy."""

    def __init__(self, node: NodeClient, stack: AsyncExitStack) -> None:
        self.node = node
        self._stack = stack

    async def begin(self, target: str, *headers: tuple[str, str], source: str = READER) -> Client:
        opened = self.node.at(source).opened("GET", target, *headers, receive_buffer=4096)
        reader, _ = await self._stack.enter_async_context(opened)
        async with asyncio.timeout(WITHIN):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.split()[1] in {"200", "206"}, head
        length = next((line for line in head.split("\r\n") if line.startswith("Content-Length: ")), ": 0")
        return Client(reader, int(length.partition(": ")[2]))

    async def status(self, target: str, source: str = OTHER) -> int:
        return (await self.node.at(source).get(target)).status


@asynccontextmanager
async def serving(registry: ScriptedRegistry, *, blob: str = "20s", **more: Any) -> AsyncIterator[Clients]:
    configured = settings([registry.url], host=HOST, timeouts={**PERIOD, "blob": blob}, **more)
    async with started(configured) as proxy, AsyncExitStack() as stack:
        yield Clients(proxy.node, stack)


Way = Callable[[ScriptedRegistry, ObjectStore, Path], dict[str, Any]]
WAYS: dict[str, Way] = {
    "whole": lambda *_: {},
    "a range": lambda *_: {},
    "a range from the middle": lambda *_: {},
    "without a length": lambda registry, *_: _scripted(registry, DropHeader("Content-Length")),
    "from an object store": lambda registry, store, _: _redirected(registry, store),
    "past a full cache": lambda _registry, _store, directory: {"cache": {"path": str(directory), **FULL}},
}
RANGES = {"a range": "bytes=0-", "a range from the middle": "bytes=1000-"}


def _scripted(registry: ScriptedRegistry, change: DropHeader) -> dict[str, Any]:
    registry.script(on("GET", "blob"), change)
    return {}


def _redirected(registry: ScriptedRegistry, store: ObjectStore) -> dict[str, Any]:
    registry.script(on("GET", "blob"), Redirect(store.signer(registry.library)))
    return {}


@pytest.mark.parametrize("source", [READER, OTHER], ids=["of the same address", "of others"])
@pytest.mark.parametrize("how", WAYS)
async def test_who_does_not_read_what_passes_through_is_cut_for_others(
    plain: ScriptedRegistry, store: ObjectStore, image: Image, tmp_path: Path, how: str, source: str
) -> None:
    more, digest, before = WAYS[how](plain, store, tmp_path), plain.add_blob(UPSTREAM, LARGE).digest, cut()
    headers = [("Range", RANGES[how])] if how in RANGES else []
    async with serving(plain, **more) as clients:
        for _ in range(PLACES):
            await clients.begin(blob(digest), *headers)
        assert await clients.status(blob(layer_of(image)[0]), source) == 200
        assert cut() == before + 1  # one for each that waits


async def test_who_takes_a_few_bytes_now_and_then_is_cut_too(plain: ScriptedRegistry, image: Image) -> None:
    digest, before = plain.add_blob(UPSTREAM, LARGE).digest, cut()
    async with serving(plain, limits={"minReadRate": "1Gi/s"}) as clients, asyncio.TaskGroup() as tasks:
        readers = [await clients.begin(blob(digest)) for _ in range(PLACES)]

        async def trickle(client: Client) -> None:
            while await client.reader.read(1000):
                assert await clients.status("/v2/", READER) == 200

        trickles = [tasks.create_task(trickle(client)) for client in readers]
        assert await clients.status(blob(layer_of(image)[0])) == 200
        assert cut() == before + 1
        for task in trickles:
            task.cancel()


async def test_over_tls_too(plain: ScriptedRegistry, image: Image, authority: trustme.CA, tmp_path: Path) -> None:
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    tls, context = listener_files(authority, tmp_path)
    digest, before = plain.add_blob(UPSTREAM, LARGE).digest, cut()
    async with serving(plain, listeners=[{"address": "127.0.0.1:0", "tls": tls}]) as clients:
        clients.node = clients.node.over(context)
        for _ in range(PLACES):
            await clients.begin(blob(digest))
        assert await clients.status(blob(layer_of(image)[0])) == 200
        assert cut() == before + 1


async def test_nobody_is_cut_where_nobody_waits(
    plain: ScriptedRegistry, second: ScriptedRegistry, image: Image
) -> None:
    """That is seen by a reader of another host, where somebody waits."""
    digest, before = plain.add_blob(UPSTREAM, LARGE).digest, cut()
    second.add_blob(UPSTREAM, LARGE)
    entry = {"endpoints": [second.url], "rewrites": [{"pattern": "^library/(.+)$", "replacement": "team/$1"}]}
    configured = settings([plain.url, second.url], host=HOST, timeouts={**PERIOD, "blob": "20s"})
    configured["registries"] = {
        REG: {**configured["registries"][REG], "endpoints": [plain.url]},
        "second.example": entry,
    }
    async with started(configured) as proxy, AsyncExitStack() as stack:
        clients = Clients(proxy.node, stack)
        lonely = [await clients.begin(blob(digest)) for _ in range(PLACES - 1)]
        for _ in range(PLACES):
            await clients.begin(blob(digest, registry="second.example"))
        assert await clients.status(blob(layer_of(image)[0], registry="second.example")) == 200
        assert cut() == before + 1
        assert [await client.is_whole() for client in lonely] == [True] * (PLACES - 1)


async def test_who_reads_fast_enough_is_not_cut(plain: ScriptedRegistry, image: Image) -> None:
    digest, before = plain.add_blob(UPSTREAM, LARGE).digest, cut()
    async with serving(plain, limits={"minReadRate": "1Ki/s"}) as clients, asyncio.TaskGroup() as tasks:
        fast = await clients.begin(blob(digest))
        slow = [await clients.begin(blob(digest)) for _ in range(PLACES - 1)]
        done = asyncio.Event()

        async def read() -> int:
            """A part every now and then until the others have been served, then all."""
            found = 0
            while not done.is_set():
                found += len(await fast.reader.read(4096))
                assert await clients.status("/v2/", READER) == 200
            return found + await Client(fast.reader, fast.size - found).rest()

        reading = tasks.create_task(read())
        waiting = [tasks.create_task(clients.status(blob(layer_of(image)[0]))) for _ in range(8)]
        assert [await one for one in waiting] == [200] * 8
        done.set()
        assert await reading == LARGE.size
        assert 1 <= cut() - before <= len(slow)


@pytest.mark.parametrize("how", ["hit", "hit in a range", "miss", "join"])
async def test_who_reads_from_the_cache_is_never_cut(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, how: str
) -> None:
    """What is stored, or being stored, makes no upstream wait."""
    stored, before, until = plain.add_blob(UPSTREAM, STORED).digest, cut(), asyncio.Event()
    others = [plain.add_blob(UPSTREAM, Generated(6 * MIB, seed=seed)).digest for seed in range(PLACES)]
    async with serving(plain, blob="2s", cache={"path": str(tmp_path)}) as clients, asyncio.TaskGroup() as tasks:
        if how.startswith("hit"):
            assert await clients.status(blob(stored)) == 200
        else:
            plain.script(on("GET", "blob", reference=stored), Stall(6 * MIB, until))
        plain.script(on("GET", "blob"), Stall(5 * MIB, until))
        headers = [("Range", "bytes=0-")] if how == "hit in a range" else []
        readers = [await clients.begin(blob(stored), *headers) for _ in range(2 if how == "join" else 1)]
        downloads = [tasks.create_task(clients.status(blob(digest))) for digest in others]
        await eventually(lambda: metric("scope_proxy_upstream_in_flight", upstream=REG) == PLACES)
        assert await clients.status(blob(layer_of(image)[0])) == 504  # it has waited for longer than the period
        until.set()
        assert [await reader.is_whole() for reader in readers] == [True] * len(readers)
        assert [await download for download in downloads].count(200) >= PLACES - 1
    assert cut() == before


async def test_a_slow_registry_is_not_its_clients_fault(plain: ScriptedRegistry, image: Image) -> None:
    digest, before, until = plain.add_blob(UPSTREAM, LARGE).digest, cut(), asyncio.Event()
    plain.script(on("GET", "blob", reference=digest).times(PLACES), Stall(2 * MIB, until))
    async with serving(plain, blob="3s") as clients, asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task((await clients.begin(blob(digest))).is_whole()) for _ in range(PLACES)]
        assert await clients.status(blob(layer_of(image)[0])) == 503  # it has waited for longer than the period
        until.set()
        assert [await reader for reader in readers] == [True] * PLACES
    assert cut() == before


async def test_what_the_cache_cannot_go_on_with_passes_through_and_is_cut_for_others(
    plain: ScriptedRegistry, image: Image, tmp_path: Path
) -> None:
    digest, before = plain.add_blob(UPSTREAM, Generated(64 * MIB, seed=64)).digest, cut()
    cache = {"path": str(tmp_path), "maxSize": "2Mi", "reserveFree": "1Ki"}
    plain.script(on("GET", "blob", reference=digest), DropHeader("Content-Length"))
    async with serving(plain, cache=cache) as clients:
        for _ in range(PLACES):
            client = await clients.begin(blob(digest))
            async with asyncio.timeout(WITHIN):
                await client.reader.readexactly(RECHECK_STEP + 4 * MIB)  # more than fits into the cache
        assert metric("scope_proxy_upstream_in_flight", upstream=REG) == PLACES
        assert await clients.status(blob(layer_of(image)[0])) == 200
        assert cut() == before + 1
