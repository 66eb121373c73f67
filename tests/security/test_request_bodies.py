"""Bodies of requests reach only handlers that take them, whole and bounded."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest
from aiohttp import web

from proxy.config.model import Limits
from proxy.oci.request import RegistryRequest
from proxy.server.app import ListenerApp, NodeSettings, node_server
from proxy.server.listener.accept import DescriptorReserve, NodeSite
from proxy.server.listener.limits import InFlight, ProcessLimits
from proxy.server.pace import ReadRate
from proxy.server.record import RequestRecord
from proxy.server.respond import Responder
from tests.fakes.client import NodeClient
from tests.security.raw import sent_raw
from tests.security.smuggling import INNER, request

pytestmark = pytest.mark.security

START = "POST /form HTTP/1.1"
LIMIT = 64 * 1024


async def echo(_: web.BaseRequest, body: bytes, __: RequestRecord, responder: Responder) -> web.StreamResponse:
    """Answers with what was sent."""
    return await responder.whole(body, {"Content-Type": "text/plain"})


async def ping(_: web.BaseRequest, __: RegistryRequest, ___: RequestRecord, responder: Responder) -> web.StreamResponse:
    """Answers everything else."""
    return await responder.whole(b"{}", {"Content-Type": "application/json"})


@asynccontextmanager
async def served() -> AsyncIterator[NodeClient]:
    """A server that takes forms on one path and waits 200 ms for them."""
    app = ListenerApp(ping, {"/form": echo})
    limits, reserve = ProcessLimits.of(Limits(), 100), DescriptorReserve(0)
    settings = NodeSettings(lambda: nullcontext(app), limits, InFlight(), 10.0, 0.2, ReadRate(1.0, 60.0), linger=0.1)
    server = node_server(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await NodeSite(runner, server, listening, reserve).start()
        yield NodeClient(f"127.0.0.1:{listening.getsockname()[1]}")
    finally:
        await runner.cleanup()


@pytest.fixture
async def node() -> AsyncIterator[NodeClient]:
    async with served() as client:
        yield client


@pytest.mark.parametrize(
    "form",
    [
        request(f"Content-Length: {LIMIT}", start=START, body=b"a" * LIMIT),
        request("Transfer-Encoding: chunked", start=START, body=b"10000\r\n" + b"a" * LIMIT + b"\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunked"],
)
async def test_a_form_is_read_whole_and_the_next_request_begins_behind_it(node: NodeClient, form: bytes) -> None:
    last = request("Connection: close", start="GET /v2/ HTTP/1.1")
    answers = await sent_raw(node, form + form + last)
    assert [(answer.status, len(answer.body)) for answer in answers] == [(200, LIMIT), (200, LIMIT), (200, 2)]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(f"Content-Length: {LIMIT + 1}", start=START, body=b"a" * (LIMIT + 1) + INNER), 413),
        (request("Transfer-Encoding: chunked", start=START, body=b"20000\r\n" + b"a" * 0x20000), 413),
        (request("Content-Length: 10", start=START, body=b"late"), 400),
        (request("Transfer-Encoding: chunked", start=START, body=b"5\r\nhello, all\r\n0\r\n\r\n" + INNER), 400),
    ],
    ids=["too long", "too long chunked", "late", "malformed"],
)
async def test_other_bodies_are_refused_and_end_the_connection(node: NodeClient, sent: bytes, status: int) -> None:
    [answer] = await sent_raw(node, sent)
    assert (answer.status, answer.code) == (status, "NAME_INVALID")


async def test_no_body_is_unpacked(node: NodeClient) -> None:
    form = request("Content-Length: 10", "Content-Encoding: gzip", "Connection: close", start=START, body=b"a" * 10)
    [answer] = await sent_raw(node, form)
    assert (answer.status, answer.body) == (200, b"a" * 10)


async def test_a_body_that_breaks_off_later_is_refused(node: NodeClient) -> None:
    head = request("Transfer-Encoding: chunked", start=START)
    [answer] = await sent_raw(node, head, b"5\r\nhel", b"lo, all\r\n")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
