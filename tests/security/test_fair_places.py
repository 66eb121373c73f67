"""Places for connections and requests: an address that takes all of them keeps nobody else out, and nobody is cut."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from proxy.testbed.images import Image
from tests.cache.serving import cached, eventually, read_answer
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, layer_of, manifest, metric
from tests.fakes.registry import ScriptedRegistry
from tests.security.raw import Connection, connected
from tests.security.smuggling import request
from tests.security.tls import listener_files

pytestmark = pytest.mark.security

FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
CONNECTIONS, REQUESTS = 16, 8
LIMITS = {"connections": CONNECTIONS, "requests": REQUESTS}
PING = request(start="GET /v2/ HTTP/1.1")
HALF = PING[:-2]
LARGE = Generated(6 * MIB, seed=32)
IN_FLIGHT = "scope_proxy_http_requests_in_flight"
OPEN = "scope_proxy_http_connections"


class Scene:
    """A proxy with few places, a registry that answers nobody but who asks for what is cached, and what is cached."""

    def __init__(self, node: NodeClient, large: str) -> None:
        self.node = node
        self.large = large
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def connect(self, source: str, data: bytes = b"") -> Connection:
        """A connection on which this has been sent."""
        return await self._stack.enter_async_context(connected(self.node.at(source), data, receive_buffer=4096))

    async def served(self, source: str, target: str = "/v2/") -> int:
        """The status of a request on a new connection; 0 where that is closed instead."""
        reader, writer = await self.connect(source, request("Connection: close", start=f"GET {target} HTTP/1.1"))
        return await answered(reader, writer)


async def answered(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> int:
    """The status of the next answer; 0 where the connection ends first."""
    try:
        async with asyncio.timeout(WITHIN):
            return (await read_answer(reader, "GET")).status
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0


@asynccontextmanager
async def scene(registry: ScriptedRegistry, image: Image, directory: Path, **more: Any) -> AsyncIterator[Scene]:
    until, large = asyncio.Event(), registry.add_blob(UPSTREAM, LARGE).digest
    settings = {"limits": LIMITS, "timeouts": {"request": "30s", "manifest": "30s", "blob": "30s"}, **more}
    async with cached([registry.url], directory, cache={"tagAge": "1h"}, **settings) as node:
        if "listeners" not in more:
            for target in (manifest(), blob(layer_of(image)[0]), blob(large)):
                assert (await node.get(target, keep_body=False)).status == 200
            await eventually(lambda: metric(OPEN) == 0)
        registry.script(on(), Stall(BEFORE_HEADERS, until))
        try:
            async with Scene(node, large) as made:
                yield made
        finally:
            until.set()


async def idle(__: Scene, flood: list[Connection]) -> None:
    """Nothing is sent."""


async def half(__: Scene, flood: list[Connection]) -> None:
    """A request that does not end."""
    for _, writer in flood:
        writer.write(HALF)


async def kept(__: Scene, flood: list[Connection]) -> None:
    """Kept after a request."""
    for reader, writer in flood:
        writer.write(PING)
        await answered(reader, writer)


async def waiting(__: Scene, flood: list[Connection]) -> None:
    """Waiting for an upstream."""
    for number, (_, writer) in enumerate(flood):
        writer.write(request(start=f"GET {manifest(f'flood{number}')} HTTP/1.1"))
    await eventually(lambda: metric(IN_FLIGHT, route="manifest") == REQUESTS)


async def unread(scene: Scene, flood: list[Connection]) -> None:
    """Not reading what is sent."""
    for _, writer in flood:
        writer.write(request(start=f"GET {blob(scene.large)} HTTP/1.1"))
    await eventually(lambda: metric(IN_FLIGHT, route="blob") == REQUESTS)


async def pipelined(__: Scene, flood: list[Connection]) -> None:
    """Requests behind one that is not answered."""
    for number, (_, writer) in enumerate(flood):
        writer.write(request(start=f"GET {manifest(f'flood{number}')} HTTP/1.1") + PING * 100 + HALF)
    await eventually(lambda: metric(IN_FLIGHT, route="manifest") == REQUESTS)


HOLDERS: dict[str, Callable[[Scene, list[Connection]], Awaitable[None]]] = {
    found.__name__: found for found in (idle, half, kept, waiting, unread, pipelined)
}


@pytest.mark.parametrize("how", HOLDERS)
async def test_connections_of_one_address_keep_nobody_else_out(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, how: str
) -> None:
    async with scene(plain, image, tmp_path) as made:
        flood = [await made.connect(FLOODER) for _ in range(CONNECTIONS)]
        await eventually(lambda: metric(OPEN) == CONNECTIONS)
        await HOLDERS[how](made, flood)
        for target in ("/v2/", manifest(), blob(layer_of(image)[0])):
            assert await made.served(OTHER, target) == 200


@pytest.mark.parametrize("how", HOLDERS)
async def test_nor_do_those_that_keep_coming_drive_it_out(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, how: str
) -> None:
    async with scene(plain, image, tmp_path) as made:
        other = await made.connect(OTHER, PING)
        assert await answered(*other) == 200
        for _ in range(4):
            await HOLDERS[how if how in {"idle", "half", "kept"} else "half"](
                made, [await made.connect(FLOODER) for _ in range(CONNECTIONS)]
            )
        flood = [await made.connect(FLOODER) for _ in range(CONNECTIONS)]
        await HOLDERS[how](made, flood)
        other[1].write(PING)
        assert await answered(*other) == 200


async def test_an_address_that_is_alone_has_all_connections(
    plain: ScriptedRegistry, image: Image, tmp_path: Path
) -> None:
    async with scene(plain, image, tmp_path) as made:
        flood = [await made.connect(FLOODER, PING) for _ in range(CONNECTIONS)]
        assert [await answered(*connection) for connection in flood] == [200] * CONNECTIONS
        for _, writer in flood:
            writer.write(PING)
        assert [await answered(*connection) for connection in flood] == [200] * CONNECTIONS


async def test_a_new_connection_takes_the_place_of_the_one_that_was_idle_for_the_longest(
    plain: ScriptedRegistry, image: Image, tmp_path: Path
) -> None:
    async with scene(plain, image, tmp_path) as made:
        flood = [await made.connect(FLOODER, PING) for _ in range(CONNECTIONS)]
        assert [await answered(*connection) for connection in flood] == [200] * CONNECTIONS
        flood[0][1].write(PING)
        assert await answered(*flood[0]) == 200
        assert await made.served(FLOODER) == 200
        for number, connection in enumerate(flood[:3]):
            connection[1].write(PING)
            assert await answered(*connection) == (0 if number == 1 else 200)


async def test_connections_that_are_being_answered_are_closed_for_nobody(
    plain: ScriptedRegistry, image: Image, tmp_path: Path
) -> None:
    async with scene(plain, image, tmp_path) as made:
        flood = [await made.connect(FLOODER) for _ in range(REQUESTS)]
        await unread(made, flood)
        for source in (FLOODER, OTHER):
            for _ in range(2 * CONNECTIONS):
                await made.connect(source, PING)
        for reader, _ in flood:
            assert LARGE.size <= len(await exactly(reader)) < LARGE.size + 4096


async def exactly(reader: asyncio.StreamReader) -> bytes:
    """An answer of the large blob with its head."""
    async with asyncio.timeout(WITHIN):
        head = await reader.readuntil(b"\r\n\r\n")
        return head + await reader.readexactly(LARGE.size)


async def test_handshakes_of_one_address_keep_nobody_else_out(
    plain: ScriptedRegistry, image: Image, authority: trustme.CA, tmp_path: Path
) -> None:
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    tls, context = listener_files(authority, tmp_path)
    listeners = [{"address": "127.0.0.1:0", "tls": tls}]
    async with scene(plain, image, tmp_path / "cache", listeners=listeners) as made:
        for _ in range(CONNECTIONS):
            await made.connect(FLOODER, b"\x16\x03\x01\x02")
        await eventually(lambda: metric(OPEN) == CONNECTIONS)
        try:
            async with connected(made.node.over(context).at(OTHER), PING) as other:
                status = await answered(*other)
        except OSError:
            status = 0
        assert status == 200


REQUESTED: dict[str, Callable[[Scene, int], str]] = {
    "manifests": lambda _, number: manifest(f"flood{number}"),
    "manifests by digest": lambda _, number: manifest(f"sha256:{number:064x}"),
    "blobs": lambda _, number: blob(f"sha256:{number:064x}"),
    "lists of tags": lambda _, number: f"/v2/library/flood{number}/tags/list?ns={REG}",
    "referrers": lambda _, number: f"/v2/{NAME}/referrers/sha256:{number:064x}?ns={REG}",
    "cached blobs that are not read": lambda scene, _: blob(scene.large),
}


@pytest.mark.parametrize("what", REQUESTED)
async def test_requests_of_one_address_keep_nobody_else_from_an_answer(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, what: str
) -> None:
    async with scene(plain, image, tmp_path) as made:
        for number in range(REQUESTS):
            await made.connect(FLOODER, request(start=f"GET {REQUESTED[what](made, number)} HTTP/1.1"))
        await eventually(lambda: sum(metric(IN_FLIGHT, route=route) for route in ROUTES) == REQUESTS)
        assert await made.served(FLOODER) == 503
        for target in ("/v2/", manifest(), blob(layer_of(image)[0])):
            assert await made.served(OTHER, target) == 200


ROUTES = ("manifest", "blob", "tags", "referrers")


async def test_of_requests_every_address_has_its_share_and_no_more(
    plain: ScriptedRegistry, image: Image, tmp_path: Path
) -> None:
    async with scene(plain, image, tmp_path, limits={"connections": 64, "requests": REQUESTS}) as made:
        for number in range(REQUESTS + 2):
            await made.connect(FLOODER, request(start=f"GET {manifest(f'flood{number}')} HTTP/1.1"))
        await eventually(lambda: metric(IN_FLIGHT, route="manifest") == REQUESTS)
        for number in range(REQUESTS):
            await made.connect(OTHER, request(start=f"GET {manifest(f'other{number}')} HTTP/1.1"))
        await eventually(lambda: metric(IN_FLIGHT, route="manifest") >= REQUESTS + REQUESTS // 2)
        assert await made.served(OTHER) == 503
        assert metric(IN_FLIGHT, route="manifest") == REQUESTS + REQUESTS // 2
        assert await made.served("127.0.0.4") == 200
