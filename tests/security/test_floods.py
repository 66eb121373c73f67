"""Floods at a proxy that runs as a program, as large as a client can make them: others are served, it stays small."""

import asyncio
import contextlib
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from proxy.testbed.images import Image, make_image
from proxy.transport.limits import QUEUE_LIMIT
from tests.crash.program import Program, fetch
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, REWRITES, UPSTREAM, authority, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.real.processes import free_port
from tests.real.proxy_process import Proxy
from tests.security.peak import CENTRAL_MIB, NODE_MIB, RecordProperty, program, tell_peak
from tests.security.prober import probing
from tests.security.raw import Connection, connected
from tests.security.smuggling import request
from tests.security.test_admin_floods import status
from tests.security.test_fair_queues import FLOODS as QUEUED
from tests.security.test_fair_queues import place
from tests.security.tls import listener_files

pytestmark = [
    pytest.mark.security,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("many_descriptors"),
]

FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
PING = request(start="GET /v2/ HTTP/1.1")
HEALTH = request(start="GET /healthz HTTP/1.1")
METRICS = request(start="GET /metrics HTTP/1.1")
LARGE = Generated(64 * MIB, seed=64)
SMALL = Generated(60_000, seed=66)
WANTED = Generated(64 * MIB, seed=65)
PLACES = 4
"""Requests that a host gets at one time."""
FEW = 256
"""Descriptors of a machine that has no more."""


def head(size: int, start: str = "GET /v2/ HTTP/1.1") -> bytes:
    """So many bytes of a head that does not end, in lines of 8,000 bytes."""
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 7990) for number in range(size // 8000))
    return request(start=start)[:-2] + lines


LINES = PING[:-2] + b"".join(b"x%d:\r\n" % number for number in range(120))
TARGET = b"GET /v2/" + b"a" * 7000
UNANSWERED = request(start=f"GET {manifest('unanswered')} HTTP/1.1")


@dataclass(frozen=True, slots=True)
class Scene:
    """A proxy that runs, and a flood that is under way."""

    proxy: Proxy
    registry: ScriptedRegistry
    stack: AsyncExitStack

    @property
    def node(self) -> NodeClient:
        return NodeClient(self.proxy.address)

    @property
    def admin(self) -> NodeClient:
        return NodeClient(self.proxy.admin_url.removeprefix("http://"))

    async def flood(self, to: NodeClient, count: int, *pieces: bytes, source: str = FLOODER) -> list[Connection]:
        """So many connections, 100 at a time; each takes 4 KiB of what is sent to it."""
        found: list[Connection] = []
        while len(found) < count:
            found += await asyncio.gather(*(self.connection(to.at(source), pieces) for _ in range(100)))
        return found

    async def connection(self, node: NodeClient, pieces: tuple[bytes, ...]) -> Connection:
        """One connection that takes 4 KiB of what is sent to it."""
        found = await self.stack.enter_async_context(connected(node, *pieces, receive_buffer=4096))
        found[1].transport.pause_reading()  # type: ignore[attr-defined] # else asyncio would take 1 MiB more
        return found

    async def probe(self, source: str = FLOODER) -> int:
        """What a kubelet gets on a new connection; 0 for none."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(WITHIN), connected(self.admin.at(source), HEALTH) as connection:
                return await status(connection)
        return 0

    async def settled(self) -> None:
        """Wait until the proxy has answered all that it can."""
        before, now = [""], [""]
        async with asyncio.timeout(WITHIN):
            while before != now or not any(now):
                assert await self.probe() == 200
                page = await asyncio.to_thread(fetch, f"{self.proxy.admin_url}/metrics")
                before, now = now, [line for line in page.splitlines() if line.startswith("scope_proxy_http_requests")]

    async def pulls(self, *targets: str) -> list[int]:
        """What another client gets."""
        found = []
        for target in targets:
            try:
                found.append((await self.node.at(OTHER).get(target)).status)
            except (OSError, asyncio.IncompleteReadError):
                found.append(0)
        return found


@asynccontextmanager
async def scene(
    registry: ScriptedRegistry, directory: Path, record: RecordProperty, most: float = NODE_MIB, **sections: object
) -> AsyncIterator[Scene]:
    entry = {"endpoints": [registry.url], "rewrites": list(REWRITES)}
    settings = {"cache": {"path": str(directory / "cache"), "tagAge": "1h"}, "log": {"level": "error"}, **sections}
    async with program({REG: entry}, record=record, most=most, **settings) as proxy, AsyncExitStack() as stack:
        yield Scene(proxy, registry, stack)


@pytest.mark.parametrize(
    ("count", "pieces"),
    [
        (4000, (head(55_000),)),
        (4000, (LINES,)),
        (4000, (TARGET,)),
        (1000, (head(8_000), *(b"Y-%d: %s\r\n" % (number, b"b" * 4000) for number in range(10)))),
        (1000, (UNANSWERED, head(60_000) + b"\r\n", head(60_000) + b"\r\n", head(60_000))),
    ],
    ids=["long values", "many lines", "long targets", "many pieces", "behind others"],
)
async def test_heads_that_do_not_end(
    plain: ScriptedRegistry,
    image: Image,
    tmp_path: Path,
    record_property: RecordProperty,
    count: int,
    pieces: tuple[bytes, ...],
) -> None:
    targets = "/v2/", manifest(), blob(layer_of(image)[0])
    async with scene(plain, tmp_path, record_property) as made:
        assert await made.pulls(*targets) == [200] * 3
        until = asyncio.Event()
        plain.script(on(), Stall(BEFORE_HEADERS, until))
        await made.flood(made.node, count, *pieces)
        assert await made.pulls(*targets) == [200] * 3
        assert await made.probe() == 200
        until.set()


TLS_FLOODS: dict[str, tuple[bytes, ...]] = {
    "handshakes": (b"\x16\x03\x01\x02",),
    "idle": (),
    "half requests": (PING[:-2],),
    "long values": (head(55_000),),
    "many lines": (LINES,),
    "kept": (PING,),
}
"""What comes on connections to a listener with TLS; handshakes are what comes in their place."""


@pytest.mark.parametrize("what", TLS_FLOODS)
async def test_with_tls(
    plain: ScriptedRegistry, authority: trustme.CA, tmp_path: Path, record_property: RecordProperty, what: str
) -> None:
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    tls, context = listener_files(authority, tmp_path)
    node = NodeClient(f"127.0.0.1:{free_port()}")
    listeners = [{"address": f"{node.host}:{node.port}", "tls": tls}]
    async with scene(plain, tmp_path, record_property, CENTRAL_MIB, listeners=listeners) as made:
        await made.flood(node if what == "handshakes" else node.over(context), 4000, *TLS_FLOODS[what])
        assert (await node.over(context).at(OTHER).get("/v2/")).status == 200
        assert await made.probe() == 200


@pytest.mark.parametrize(
    ("count", "pieces"),
    [
        (300, (head(950_000, "GET /metrics HTTP/1.1"),)),
        (3000, (METRICS[:-2],)),
        (3000, ()),
        (1000, (METRICS,)),
        (1000, (METRICS * 20,)),
        (1000, (HEALTH,)),
    ],
    ids=["long heads", "half requests", "idle", "unread", "pipelined", "kept"],
)
async def test_at_the_operators_port(
    plain: ScriptedRegistry,
    image: Image,
    tmp_path: Path,
    record_property: RecordProperty,
    count: int,
    pieces: tuple[bytes, ...],
) -> None:
    async with scene(plain, tmp_path, record_property) as made:
        async with probing(made.admin.host, made.admin.port, FLOODER) as found:
            await made.flood(made.admin, count, *pieces)
            assert await made.probe() == 200
        assert found.keys() == {200}, found
        assert await made.pulls("/v2/", manifest(), blob(layer_of(image)[0])) == [200] * 3


@pytest.mark.parametrize(
    "pieces", [(), (PING[:-2],), (PING,), (UNANSWERED,), (PING * 50,)], ids=["idle", "half", "kept", "stalled", "many"]
)
async def test_connections(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, record_property: RecordProperty, pieces: tuple[bytes, ...]
) -> None:
    targets = "/v2/", manifest(), blob(layer_of(image)[0])
    async with scene(plain, tmp_path, record_property) as made:
        assert await made.pulls(*targets) == [200] * 3
        until = asyncio.Event()
        plain.script(on(), Stall(BEFORE_HEADERS, until))
        await made.flood(made.node, 5000, *pieces)
        assert await made.pulls(*targets) == [200] * 3
        assert await made.probe() == 200
        until.set()


@pytest.mark.parametrize("what", ["manifests by tag", "heads", "blobs", "lists of tags", "referrers"])
async def test_requests_of_one_host(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, record_property: RecordProperty, what: str
) -> None:
    method, target = QUEUED[what]
    inside = PLACES * 3 // 4 if what == "blobs" else PLACES
    hosts = {authority(plain.url): {"maxConnections": PLACES}}
    times = {"manifest": "2m", "blob": "2m"}
    until = asyncio.Event()
    plain.script(on().times(inside), Stall(BEFORE_HEADERS, until))
    async with (
        scene(plain, tmp_path, record_property, hosts=hosts, timeouts=times) as made,
        asyncio.TaskGroup() as tasks,
    ):
        answers = []
        for number in range(QUEUE_LIMIT + 1000):
            sent = request(start=f"{method} {target(number)} HTTP/1.1")
            connection = await made.stack.enter_async_context(connected(made.node.at(FLOODER), sent))
            answers.append(tasks.create_task(connection[0].readline()))
        await ended(answers, 1000 - inside)  # as the queue is full
        wanted = blob(layer_of(image)[0]) if what == "blobs" else manifest()
        pulling = tasks.create_task(made.pulls(wanted))
        await ended(answers, 1000 - inside + 1)  # as one has made room for the other client
        until.set()
        assert await pulling == [200]
        assert place(plain, wanted) <= 2 * inside  # those that had places, and as many in turn
        for answer in answers:
            answer.cancel()


async def ended(answers: Sequence["asyncio.Task[bytes]"], count: int) -> None:
    """Wait until so many requests have been answered; the flood has as long as its requests may wait."""
    async with asyncio.timeout(100):
        while (done := sum(answer.done() for answer in answers)) < count:
            await asyncio.wait([answer for answer in answers if not answer.done()], return_when=FIRST_COMPLETED)
    assert done == count


@pytest.mark.parametrize("what", ["passing through", "a range", "cached", "a cached range", "being cached"])
async def test_clients_that_do_not_read(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, record_property: RecordProperty, what: str
) -> None:
    large = plain.add_blob(UPSTREAM, LARGE).digest
    is_passing = what in {"passing through", "a range"}
    cache = {"path": str(tmp_path / "cache"), "reserveFree": "900Ti" if is_passing else "1Mi"}
    times = {"drainIdle": "0s", "slowClient": "2s", "blob": "30s"}
    async with scene(plain, tmp_path, record_property, cache=cache, timeouts=times) as made:
        if "cached" in what and what != "being cached":
            assert await made.pulls(blob(large)) == [200]
        ranged = ("Range: bytes=0-",) if "range" in what else ()
        await made.flood(made.node, 400, request(*ranged, start=f"GET {blob(large)} HTTP/1.1"))
        assert await made.pulls("/v2/", blob(layer_of(image)[0])) == [200] * 2
        assert await made.probe() == 200


MANIFEST = request(start=f"GET {manifest()} HTTP/1.1")
UNREAD: dict[str, tuple[Callable[[str], bytes], dict[str, object]]] = {
    "manifests": (lambda _: MANIFEST * 60, {}),
    "fewer answers than connections": (lambda _: MANIFEST * 60, {"requests": 32}),
    "small blobs": (lambda small: request(start=f"GET {blob(small)} HTTP/1.1") * 60, {}),
    "ranges of small blobs": (lambda small: request("Range: bytes=9-", start=f"GET {blob(small)} HTTP/1.1") * 60, {}),
    "one after the other": (lambda small: (MANIFEST + request(start=f"GET {blob(small)} HTTP/1.1") + PING) * 30, {}),
}


@pytest.mark.parametrize("what", UNREAD)
async def test_connections_whose_answers_are_not_read_make_room(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, record_property: RecordProperty, what: str
) -> None:
    """One that is read is left alone, even of the address that has the most."""
    sent, more = UNREAD[what]
    small, wanted = plain.add_blob(UPSTREAM, SMALL).digest, plain.add_blob(UPSTREAM, WANTED).digest
    plain.add(make_image(UPSTREAM, image.tag, extra={"annotations": {"a": "x" * 60_000}}))
    limits = {"connections": 64, **more}
    async with scene(plain, tmp_path, record_property, limits=limits, timeouts={"drainIdle": "0s"}) as made:
        assert await made.pulls(manifest(), blob(small), blob(wanted)) == [200] * 3
        opened = made.node.at(FLOODER).opened("GET", blob(wanted), receive_buffer=65536)
        reader, _ = await made.stack.enter_async_context(opened)
        await asyncio.gather(*(made.connection(made.node.at(FLOODER), (sent(small),)) for _ in range(64)))
        await made.settled()
        async with asyncio.TaskGroup() as tasks:
            pulling = tasks.create_task(made.pulls("/v2/", manifest(), "/v2/"))
            found = 0
            while not pulling.done():
                found += len(await reader.read(4096))
                assert await made.probe() == 200
        assert pulling.result() == [200] * 3
        async with asyncio.timeout(WITHIN):
            while found < WANTED.size and (piece := await reader.read(1 << 18)):
                found += len(piece)
        assert found >= WANTED.size


async def test_a_connection_that_has_got_the_place_of_one_that_is_not_read_keeps_it(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, record_property: RecordProperty
) -> None:
    """Longer than connections wait for a place."""
    wanted, times = plain.add_blob(UPSTREAM, WANTED).digest, {"request": "5s", "drainIdle": "0s"}
    plain.add(make_image(UPSTREAM, image.tag, extra={"annotations": {"a": "x" * 60_000}}))
    async with scene(plain, tmp_path, record_property, limits={"connections": 16}, timeouts=times) as made:
        assert await made.pulls(manifest(), blob(wanted)) == [200] * 2
        await asyncio.gather(*(made.connection(made.node.at(FLOODER), (MANIFEST * 60,)) for _ in range(16)))
        await made.settled()
        first = await made.stack.enter_async_context(made.node.at(OTHER).opened("GET", "/v2/"))
        assert b"200" in await first[0].readline()
        opened = made.node.at(OTHER).opened("GET", blob(wanted), receive_buffer=65536)
        reader, _ = await made.stack.enter_async_context(opened)
        until, found = asyncio.get_running_loop().time() + 6, 0
        while asyncio.get_running_loop().time() < until:
            found += len(await reader.read(4096))
            assert await made.probe() == 200
        async with asyncio.timeout(WITHIN):
            while found < WANTED.size and (piece := await reader.read(1 << 18)):
                found += len(piece)
        assert found >= WANTED.size


@pytest.mark.parametrize("count", [40, 80, 200])
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "passing through"])
async def test_large_manifests_that_are_not_read(
    plain: ScriptedRegistry, tmp_path: Path, record_property: RecordProperty, cache: bool, count: int
) -> None:
    texts = [f"{number:06d}" * 690_000 for number in range(40)]
    large = [make_image(UPSTREAM, text[:6], extra={"annotations": {"a": text}}) for text in texts]
    for one in large:
        plain.add(one)
    stored = {"path": str(tmp_path / "cache"), "reserveFree": "1Mi" if cache else "900Ti"}
    async with scene(plain, tmp_path, record_property, cache=stored) as made:
        for number in range(count):
            target = manifest(large[number % len(large)].digest)
            await made.connection(made.node.at(FLOODER), (request(start=f"GET {target} HTTP/1.1"),))
        assert await made.pulls(*(manifest(one.digest) for one in large[:3])) == [200] * 3
        assert await made.probe() == 200


@pytest.mark.parametrize("what", ["idle", "half", "unread", "stalled", "of the operator's port"])
async def test_without_descriptors(
    plain: ScriptedRegistry, tmp_path: Path, record_property: RecordProperty, what: str
) -> None:
    proxy = Program(tmp_path, plain.url, tmp_path / "cache", {})
    await proxy.start(open_files=FEW)
    node, admin = NodeClient(proxy.address), NodeClient(proxy.admin)
    large, until = plain.add_blob(UPSTREAM, LARGE).digest, asyncio.Event()
    sent = {"half": PING[:-2], "unread": request(start=f"GET {blob(large)} HTTP/1.1")}.get(what, b"")
    try:
        assert (await node.get(blob(large), keep_body=False)).sha256 == large
        plain.script(on("HEAD"), Stall(BEFORE_HEADERS, until))
        async with AsyncExitStack() as stack:
            for number in range(2 * FEW):
                if what == "stalled":
                    sent = request(start=f"GET /v2/{NAME}/manifests/t{number}?ns={REG} HTTP/1.1")
                to = admin if "operator" in what else node
                await stack.enter_async_context(connected(to.at(FLOODER), sent, receive_buffer=4096))
            for path in ("/healthz", "/readyz"):
                found = 0
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(10):
                        found = len(await asyncio.to_thread(fetch, f"http://{proxy.admin}{path}"))
                assert found
        until.set()
        tell_peak(proxy.running.pid, record_property, NODE_MIB)
    finally:
        assert await proxy.stop() == 0
