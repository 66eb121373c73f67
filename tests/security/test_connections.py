"""Slow, idle and many connections, and requests that heap up: each is bounded, and the others are served meanwhile."""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.runtime.tuning import Tuning
from proxy.testbed.images import make_image
from tests.cache.serving import eventually, read_answer
from tests.fakes.canaries import Written
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import AT_ONCE, UPSTREAM, manifest, metric, server_tuning, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.raw import Connection, connected, sent_raw, until_end
from tests.security.smuggling import request

pytestmark = pytest.mark.security

PING = request(start="GET /v2/ HTTP/1.1")
HALF = PING[:-2]
"""A request that is not there yet."""
CONNECTIONS, REQUESTS = 16, 8
"""The least that the configuration takes."""
REFUSED = "scope_proxy_http_connections_refused_total"
OPEN = "scope_proxy_http_connections"


@asynccontextmanager
async def serving(plain: ScriptedRegistry, *, tuning: Tuning = AT_ONCE, **more: Any) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with the lowest limits that wait for requests 200 ms."""
    limits = {"connections": CONNECTIONS, "requests": REQUESTS}
    configuration = settings([plain.url], **{"limits": limits, "timeouts": {"request": "200ms"}, **more})
    async with started(configuration, tuning=tuning) as proxy:
        yield proxy.node


async def ping(connection: Connection) -> int:
    """The status of one ping."""
    reader, writer = connection
    writer.write(PING)
    return (await read_answer(reader, "GET")).status


async def test_a_connection_on_which_nothing_comes_is_closed(plain: ScriptedRegistry) -> None:
    before = metric(REFUSED, reason="slow")
    async with serving(plain) as node:
        assert await sent_raw(node) == []
    assert metric(REFUSED, reason="slow") == before + 1


async def test_a_request_that_trickles_in_ends_the_connection(plain: ScriptedRegistry) -> None:
    before = metric(REFUSED, reason="slow")
    async with serving(plain) as node, connected(node) as (reader, writer):
        ended = asyncio.Event()

        async def trickle() -> None:
            writer.write(HALF + b"X-Mark: ")
            while not ended.is_set():
                writer.write(b"a")
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(trickle())
            assert await until_end(reader) == b""
            ended.set()
    assert metric(REFUSED, reason="slow") == before + 1


async def test_the_second_request_of_a_connection_has_no_more_time_but_may_come_later(plain: ScriptedRegistry) -> None:
    async with serving(plain) as node, connected(node) as first, connected(node) as second:
        assert await ping(first) == await ping(second) == 200
        assert await sent_raw(node) == []  # one that is as old has been closed, and these wait
        assert await ping(first) == 200
        second[1].write(HALF)
        assert await until_end(second[0]) == b""
        assert await ping(first) == 200


async def test_an_answer_may_take_longer_than_a_request(plain: ScriptedRegistry) -> None:
    until = asyncio.Event()
    plain.script(on(kind="manifest").nth(1), Stall(BEFORE_HEADERS, until))
    async with serving(plain) as node, connected(node) as (reader, writer):
        writer.write(request() + HALF)
        assert await sent_raw(node) == []
        writer.write(b"X-Mark: a\r\n")
        until.set()
        assert (await read_answer(reader, "GET")).status == 200
        writer.write(b"\r\n")
        assert (await read_answer(reader, "GET")).status == 200


async def test_hundreds_that_trickle_keep_nobody_from_pulling(plain: ScriptedRegistry) -> None:
    before = metric(REFUSED, reason="slow")
    async with serving(plain, limits={"connections": 600}) as node, AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(connected(node)) for _ in range(300)]
        for _, writer in slow:
            writer.write(HALF)
        assert (await node.get(manifest())).status == 200
        assert {await until_end(reader) for reader, _ in slow} == {b""}
    assert metric(REFUSED, reason="slow") == before + 300


async def test_there_are_never_more_connections_than_the_limit_over_all_listeners(plain: ScriptedRegistry) -> None:
    before, refused = metric(OPEN), metric(REFUSED, reason="limit")
    listeners = [{"address": "127.0.0.1:0"}, {"address": "127.0.0.2:0"}]
    async with serving(plain, listeners=listeners) as node, AsyncExitStack() as stack:
        kept = [await stack.enter_async_context(connected(node)) for _ in range(CONNECTIONS)]
        for connection in kept:
            assert await ping(connection) == 200
        assert metric(OPEN) == before + CONNECTIONS
        assert await ping(await stack.enter_async_context(connected(node))) == 200
        assert metric(OPEN) == before + CONNECTIONS
        assert metric(REFUSED, reason="limit") == refused + 1
        assert await until_end(kept[0][0]) == b""
        kept[1][1].close()
        await eventually(lambda: metric(OPEN) == before + CONNECTIONS - 1)
        assert (await node.get("/v2/")).status == 200
        assert metric(REFUSED, reason="limit") == refused + 1
    await eventually(lambda: metric(OPEN) == before)


async def test_connections_beyond_the_limit_are_closed_where_all_are_being_answered(plain: ScriptedRegistry) -> None:
    until, refused = asyncio.Event(), metric(REFUSED, reason="limit")
    plain.script(on(kind="manifest"), Stall(BEFORE_HEADERS, until))
    limits = {"connections": CONNECTIONS}
    async with serving(plain, limits=limits) as node, asyncio.TaskGroup() as tasks:
        few = CONNECTIONS // 8  # are never answered on, of one address
        sources = ["127.0.0.1"] * (CONNECTIONS - few) + ["127.0.0.2"] * few
        pulls = [tasks.create_task(node.at(source).get(manifest())) for source in sources]
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="manifest") == CONNECTIONS)
        assert await sent_raw(node, PING) == []
        assert metric(REFUSED, reason="limit") == refused + 1
        until.set()
        for pull in pulls:
            assert (await pull).status == 200
        assert (await node.get("/v2/")).status == 200


async def test_requests_beyond_the_limit_are_503_and_never_429(plain: ScriptedRegistry) -> None:
    until = asyncio.Event()
    plain.script(on(kind="manifest"), Stall(BEFORE_HEADERS, until))
    async with serving(plain) as node, asyncio.TaskGroup() as tasks:
        pulls = [tasks.create_task(node.get(manifest())) for _ in range(REQUESTS)]
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="manifest") == REQUESTS)
        for target in ("/v2/", manifest()):
            got = await node.get(target)
            assert (got.status, got.code, got.header("Retry-After")) == (503, "TOOMANYREQUESTS", "2")
        until.set()
        for pull in pulls:
            assert (await pull).status == 200
        assert (await node.get("/v2/")).status == 200


async def test_pipelined_requests_whose_answers_nobody_reads_are_not_answered(
    plain: ScriptedRegistry, tmp_path: Path
) -> None:
    count, image = 10_000, make_image(UPSTREAM, "2", extra={"annotations": {"a": "a" * 50_000}})
    plain.library.add(image)
    target = manifest(image.digest)

    def served() -> float:
        return metric("scope_proxy_http_requests_total", route="manifest", code="200")

    async with serving(plain, timeouts={"request": "20s"}, cache={"path": str(tmp_path)}) as node:
        before = served()
        async with node.opened("GET", target, receive_buffer=4096) as (_, writer):
            writer.write(request(start=f"GET {target} HTTP/1.1") * count)
            seen = before
            while seen == before or served() != seen:
                seen = served()
                await asyncio.sleep(0.1)
            assert (await node.get(target)).status == 200
        assert served() - before < count / 2


async def test_pipelined_requests_are_answered_in_turn_to_who_reads(plain: ScriptedRegistry) -> None:
    async with serving(plain) as node, connected(node) as (reader, writer):
        writer.write(PING * 1_999 + request("Connection: close", start="GET /v2/ HTTP/1.1"))
        found = await until_end(reader)
    assert found.count(b"HTTP/1.1 200 OK\r\n") == 2_000


async def test_without_descriptors_the_log_stays_short_and_service_goes_on(
    plain: ScriptedRegistry, logs: Written
) -> None:
    before = metric(REFUSED, reason="system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(plain, timeouts={}, tuning=server_tuning(accept_pause=0.1)) as node:
        clients = [socket.socket() for _ in range(10)]
        try:
            os.close(lowest := os.dup(clients[0].fileno()))  # the first that is free
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            for client in clients:
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, (node.host, node.port))
            await eventually(lambda: metric(REFUSED, reason="system") > before + 1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()
        assert (await node.get("/v2/")).status == 200
    lines = [line for line in logs.lines if "cannot accept connections" in line]
    assert len(lines) == metric(REFUSED, reason="system") - before
    assert not [line for line in logs.lines if "out of system resource" in line]


@pytest.mark.slow
async def test_handshakes_that_never_end_count_as_connections_and_are_cut(
    plain: ScriptedRegistry, authority: trustme.CA, tmp_path: Path
) -> None:
    before, refused = metric(OPEN), metric(REFUSED, reason="handshake")
    issued, files = authority.issue_cert("127.0.0.1"), (tmp_path / "cert.pem", tmp_path / "key.pem")
    files[0].write_bytes(b"".join(item.bytes() for item in issued.cert_chain_pems))
    files[1].write_bytes(issued.private_key_pem.bytes())
    listener = {"address": "127.0.0.1:0", "tls": {"certFile": str(files[0]), "keyFile": str(files[1])}}
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # Long enough for a busy machine to open all of them before the first is cut.
    async with (
        serving(plain, listeners=[listener], timeouts={"request": "3s"}) as node,
        AsyncExitStack() as stack,
    ):
        slow = [await stack.enter_async_context(connected(node)) for _ in range(CONNECTIONS)]
        await eventually(lambda: metric(OPEN) == before + CONNECTIONS)
        assert await sent_raw(node) == []
        assert {await until_end(reader) for reader, _ in slow} == {b""}
        await eventually(lambda: metric(OPEN) == before)
    assert metric(REFUSED, reason="handshake") == refused + CONNECTIONS
