"""Requests that do not end: together they have one bound, and who sends the most of them loses connections first."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.cache.serving import eventually
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.raw import Connection, connected, until_end
from tests.security.smuggling import request
from tests.security.test_fair_places import answered
from tests.security.tls import listener_files

pytestmark = [pytest.mark.security, pytest.mark.slow]

FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
CONNECTIONS = 400
START = request(start="GET /v2/ HTTP/1.1")[:-2]
LONG = START + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(7))
LINES = START + b"".join(b"x%d:\r\n" % number for number in range(120))
UNANSWERED = request(start=f"GET {manifest('unanswered')} HTTP/1.1")
FORM = request(
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Length: 60000",
    start="POST /token HTTP/1.1",
    body=b"service=x&scope=" + b"a" * 58_000,
)
FLOODS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "long values": (CONNECTIONS, (LONG,)),
    "many pieces": (CONNECTIONS, tuple(LONG[at : at + 6000] for at in range(0, len(LONG), 6000))),
    "many lines": (3 * CONNECTIONS, (LINES,)),
    "behind a request without an answer": (CONNECTIONS, (UNANSWERED, LONG)),
    "requests behind one without an answer": (CONNECTIONS // 4, (UNANSWERED, (LONG + b"\r\n") * 8)),
    "forms": (CONNECTIONS, (FORM,)),
}
"""How many connections, and what comes on each."""
REFUSED = "scope_proxy_http_connections_refused_total"
ANSWERED = "scope_proxy_http_requests_total"


async def send(node: NodeClient, stack: AsyncExitStack, *pieces: bytes) -> Connection:
    return await stack.enter_async_context(connected(node, *pieces))


@asynccontextmanager
async def serving(registry: ScriptedRegistry, **more: Any) -> AsyncIterator[NodeClient]:
    """A proxy in front of a registry that never answers."""
    times, until = {"request": "10s", "manifest": "10s"}, asyncio.Event()
    registry.script(on(), Stall(BEFORE_HEADERS, until))
    async with started(settings([registry.url], **{"timeouts": times, **more})) as proxy:
        try:
            yield proxy.node
        finally:
            until.set()


def tokens(directory: Path) -> dict[str, Any]:
    """A listener that gives tokens out."""
    keys = directory / "keys"
    keys.write_text(secrets.token_hex(32))
    clients = {"auth": "upstream", "challenge": "bearer", "tokenKeyFile": str(keys), "externalURL": "https://x.example"}
    return {"address": "127.0.0.1:0", "clients": clients}


def given_up() -> float:
    """Requests that have come to an end of some other kind: their bytes were held until then."""
    slow, late = metric(REFUSED, reason="slow"), metric(ANSWERED, route="manifest", code="504")
    return slow + late + metric("scope_proxy_http_rejected_total", reason="malformed")


@pytest.mark.parametrize("what", FLOODS)
async def test_they_cost_connections_of_the_address_that_sends_the_most(
    plain: ScriptedRegistry, tmp_path: Path, what: str
) -> None:
    count, pieces = FLOODS[what]
    before, others = metric(REFUSED, reason="heads"), given_up()
    more = {"listeners": [tokens(tmp_path)]} if what == "forms" else {}
    async with serving(plain, **more) as node, AsyncExitStack() as stack:
        other = await send(node.at(OTHER), stack, START)
        flood = [await send(node.at(FLOODER), stack, *pieces) for _ in range(count)]
        await eventually(lambda: metric(REFUSED, reason="heads") > before or given_up() > others + count // 2)
        assert metric(REFUSED, reason="heads") > before
        assert await until_end(flood[0][0]) == b""  # the oldest
        assert not flood[-1][0].at_eof()
        other[1].write(b"\r\n")
        assert await answered(*other) == (401 if what == "forms" else 200)


async def test_handshakes_that_do_not_end_do_so_too(
    plain: ScriptedRegistry, authority: trustme.CA, tmp_path: Path
) -> None:
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    tls, context = listener_files(authority, tmp_path)
    before = metric(REFUSED, reason="heads")
    handshakes = metric(REFUSED, reason="handshake")
    times = {"request": "20s"}
    configured = settings([plain.url], timeouts=times, listeners=[{"address": "127.0.0.1:0", "tls": tls}])
    async with started(configured) as proxy, AsyncExitStack() as stack:
        flood = [await send(proxy.node.at(FLOODER), stack, b"\x16\x03\x01\x02") for _ in range(3 * CONNECTIONS)]
        await eventually(
            lambda: metric(REFUSED, reason="heads") > before or metric(REFUSED, reason="handshake") > handshakes
        )
        assert metric(REFUSED, reason="heads") > before
        assert await until_end(flood[0][0]) == b""
        assert (await proxy.node.over(context).at(OTHER).get("/v2/")).status == 200


async def test_requests_that_end_leave_nothing_behind(plain: ScriptedRegistry) -> None:
    before = metric(REFUSED, reason="heads")
    async with serving(plain) as node, AsyncExitStack() as stack:
        for _ in range(4):
            flood = [await send(node.at(FLOODER), stack, LONG) for _ in range(CONNECTIONS // 2)]
            for _, writer in flood:
                writer.write(b"\r\n")
            assert {await answered(*connection) for connection in flood} == {200}
    assert metric(REFUSED, reason="heads") == before


@pytest.mark.parametrize("behind", [b"", UNANSWERED], ids=["alone", "behind another"])
async def test_one_that_is_too_long_is_not_answered(plain: ScriptedRegistry, behind: bytes) -> None:
    async with serving(plain, timeouts={"request": "10s", "manifest": "1s"}) as node, AsyncExitStack() as stack:
        reader, writer = await send(node, stack, behind, LONG)
        for number in range(40):
            writer.write(b"Y-%d: %s\r\n" % (number, b"b" * 8000))
            await asyncio.sleep(0)
        writer.write(b"\r\n")
        plain.behave()
        if behind:
            assert await answered(reader, writer) == 504
        assert await answered(reader, writer) in {431, 0}  # 0: what it went on sending drove the answer out
