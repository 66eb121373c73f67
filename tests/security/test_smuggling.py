"""What can be read in two ways is answered once and reaches no registry, and the connection ends (RFC 9112)."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from proxy.testbed.images import Image
from tests.fakes.canaries import Written
from tests.fakes.client import NodeClient
from tests.fakes.proxy import manifest, metric, server_tuning, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.raw import RawAnswer, sent_raw
from tests.security.smuggling import ATTACKS, MARK, Attack, request

pytestmark = pytest.mark.security

PING = request(start="GET /v2/ HTTP/1.1")
CLOSE = request("Connection: close", start="GET /v2/ HTTP/1.1")


@pytest.fixture
async def node(plain: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy that does not wait long for the rest of a request."""
    configuration = settings([plain.url], timeouts={"request": "200ms"})
    async with started(configuration, tuning=server_tuning(linger=0.1)) as proxy:
        yield proxy.node


def check(answer: RawAnswer, attack: Attack) -> None:
    """An answer is ours: it names no library and repeats nothing."""
    assert answer.header("Server") == "scope-proxy"
    assert answer.header("Connection") == "close" or answer.head.startswith(b"HTTP/1.0")
    text = (answer.head + answer.body).lower()
    for word in (b"aiohttp", b"python", b"llhttp", MARK.encode()):
        assert word not in text
    if answer.status >= 400 and not attack.bodiless:
        assert answer.header("Content-Type") == "application/json"
        assert answer.code == ("UNSUPPORTED" if answer.status == 405 else "NAME_INVALID")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_it_is_answered_once_and_reaches_nobody(
    node: NodeClient, plain: ScriptedRegistry, attack: Attack, logs: Written
) -> None:
    answers = await sent_raw(node, *attack.pieces, bodiless=attack.bodiless)
    assert tuple(answer.status for answer in answers) == attack.statuses
    for answer in answers:
        check(answer, attack)
    assert plain.record.all() == ()
    assert len([line for line in logs.lines if "'operation': " in line]) == len(answers)
    assert not [line for line in logs.lines if MARK in line]


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 70


async def test_malformed_requests_are_counted(node: NodeClient) -> None:
    before = metric("scope_proxy_http_requests_total", route="other", code="400")
    await sent_raw(node, request("X-Mark : a"))
    assert metric("scope_proxy_http_requests_total", route="other", code="400") == before + 1


async def test_proper_requests_behind_each_other_are_answered_in_turn(
    node: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    answers = await sent_raw(node, PING + request("Content-Length: 0") + b"\r\n" + PING + CLOSE)
    assert [answer.status for answer in answers] == [200, 200, 200, 200]
    assert answers[1].header("Docker-Content-Digest") == image.digest
    assert len(plain.record.of("manifest")) == 1


async def test_a_request_that_comes_byte_by_byte_is_answered(node: NodeClient, plain: ScriptedRegistry) -> None:
    pieces = [bytes([byte]) for byte in CLOSE]
    assert [answer.status for answer in await sent_raw(node, *pieces)] == [200]
    assert plain.record.all() == ()


@pytest.mark.parametrize("host", ["proxy.example", "proxy.example:5000", "127.0.0.1:5000", "[::1]:5000", ""])
async def test_hosts_as_clients_write_them_are_taken(node: NodeClient, host: str) -> None:
    head = f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert [answer.status for answer in await sent_raw(node, head.encode())] == [200]


async def test_http_1_0_needs_no_host(node: NodeClient) -> None:
    [answer] = await sent_raw(node, b"GET /v2/ HTTP/1.0\r\n\r\n")
    assert answer.status == 200


async def test_a_million_header_lines_end_the_connection(node: NodeClient, plain: ScriptedRegistry) -> None:
    lines = b"X-Mark: a\r\n" * 10_000
    answers = await sent_raw(node, request()[:-2], *[lines] * 100)
    assert {answer.status for answer in answers} <= {431}  # the kernel may have dropped it, as we read no further
    assert plain.record.all() == ()


async def test_a_head_without_end_ends_the_connection(node: NodeClient, plain: ScriptedRegistry) -> None:
    lines = b"X-Mark: " + b"a" * 8000 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        answers = await sent_raw(node, request()[:-2], *[lines] * 100)
        assert {answer.status for answer in answers} <= {431}
    assert plain.record.all() == ()


async def test_paths_of_the_target_stay_what_they_are(node: NodeClient, plain: ScriptedRegistry) -> None:
    target = manifest().replace("/v2/", "//v2/")
    [answer] = await sent_raw(node, request("Connection: close", start=f"GET {target} HTTP/1.1"))
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
    assert plain.record.all() == ()
