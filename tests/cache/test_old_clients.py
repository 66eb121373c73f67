"""Clients that speak HTTP/1.0, and a blob whose length nobody knows: the end of the connection is the end of the body.

A body that breaks off must not look like one that is whole, so a connection that ends too early is reset.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cache.serving import BLOB, eventually
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader, FlipByte, Reply
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.interrupts import Cut, Stall
from tests.fakes.proxy import UPSTREAM, blob, metric, settings, started
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(9 * MIB + 5, seed=211)
WHOLE = b"".join(LARGE.pieces(0, LARGE.size))


@pytest.fixture(params=["uncached", "cached"])
async def near(
    request: pytest.FixtureRequest,
    listener: tuple[dict[str, Any], ssl.SSLContext | None],
    plain: ScriptedRegistry,
    directory: Path,
) -> AsyncIterator[NodeClient]:
    settled, nodes = listener
    cache = {"cache": {"path": str(directory), "reserveFree": "1Mi"}} if request.param == "cached" else {}
    async with started(settings([plain.url], **cache) | {"listeners": [settled]}) as proxy:
        yield proxy.node if nodes is None else proxy.node.over(nodes)


@pytest.fixture
def target(plain: ScriptedRegistry) -> str:
    return blob(plain.add_blob(UPSTREAM, LARGE).digest)


async def received(node: NodeClient, target: str, *headers: str) -> tuple[bytes, bytes, str]:
    """Head and body as a client of HTTP/1.0 takes them, and how the connection ends: where it is whole, as usual."""
    lines = [f"GET {target} HTTP/1.0", f"Host: {node.host}:{node.port}", *headers, "", ""]
    found, end = bytearray(), "whole"
    try:
        async with asyncio.timeout(WITHIN), node.connected() as (reader, writer):
            writer.write("\r\n".join(lines).encode())
            while piece := await reader.read(1 << 16):
                found += piece
    except (ConnectionError, ssl.SSLError):
        end = "reset"
    except TimeoutError:
        end = "never"
    head, _, body = bytes(found).partition(b"\r\n\r\n")
    return head, body, end


@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)], ids=["close", "keep-alive"])
async def test_a_body_that_comes_whole_ends_properly(
    near: NodeClient, plain: ScriptedRegistry, target: str, headers: tuple[str, ...]
) -> None:
    plain.script(BLOB, DropHeader("Content-Length"))
    head, body, end = await received(near, target, *headers)
    assert head.startswith(b"HTTP/1.0 200 ")
    assert b"content-length" not in head.lower()
    assert (end, body == WHOLE) == ("whole", True)


@pytest.mark.parametrize("fault", [Cut(5 * MIB), FlipByte("middle")], ids=["cut", "wrong"])
async def test_a_body_that_breaks_off_is_an_error_to_the_client(
    near: NodeClient, plain: ScriptedRegistry, target: str, fault: Cut | FlipByte
) -> None:
    plain.script(BLOB.nth(1), DropHeader("Content-Length"), fault)
    plain.script(BLOB.starting(2), Reply(500))
    head, body, end = await received(near, target)
    assert head == b"" or head.startswith(b"HTTP/1.0 200 ")  # a reset may take along what was not read yet
    assert (end, len(body) < len(WHOLE)) == ("reset", True)
    await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="blob") == 0)


async def test_a_body_that_is_being_sent_when_the_proxy_ends_is_an_error_to_the_client(
    listener: tuple[dict[str, Any], ssl.SSLContext | None], plain: ScriptedRegistry, target: str
) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(BLOB, DropHeader("Content-Length"), Stall(5 * MIB, until, reached))
    settled, nodes = listener
    async with asyncio.TaskGroup() as tasks:
        async with started(settings([plain.url]) | {"listeners": [settled]}) as proxy:
            node = proxy.node if nodes is None else proxy.node.over(nodes)
            taking = tasks.create_task(received(node, target))
            await reached.wait()
            await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="blob") == 1)
        head, body, end = await taking
        until.set()
    assert head == b"" or head.startswith(b"HTTP/1.0 200 ")
    assert (end, body == WHOLE[: len(body)]) == ("reset", True)
