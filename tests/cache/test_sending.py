"""Stored blobs on their way to clients: whole and right over plain connections and TLS, whoever reads and how."""

import asyncio
import errno
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.runtime.tuning import Tuning
from tests.cache.serving import cached, eventually, read_answer, reading, rest_of, stored_file
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import WITHIN, NodeClient, read_head
from tests.fakes.proxy import AT_ONCE, UPSTREAM, blob, metric, server_tuning, settings, started
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(24 * MIB + 12_345, seed=97)
CLIENTS = 4
FEW_BYTES = 4096


@pytest.fixture(params=["plain", "tls"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], ssl.SSLContext | None]:
    """A listener's settings, and what nodes connect to it with."""
    if request.param == "plain":
        return {"address": "127.0.0.1:0"}, None
    authority, nodes = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(nodes)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    files = {"certFile": str(tmp_path / "tls.pem"), "keyFile": str(tmp_path / "tls.pem")}
    return {"address": "127.0.0.1:0", "tls": files}, nodes


@pytest.fixture
def tuning() -> Tuning:
    return AT_ONCE


@pytest.fixture
async def near(
    request: pytest.FixtureRequest,
    listener: tuple[dict[str, Any], ssl.SSLContext | None],
    plain: ScriptedRegistry,
    directory: Path,
    digest: str,
    tuning: Tuning,
) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy that has the blob stored; with `short_budgets` it waits for no client long."""
    settled, nodes = listener
    async with cached([plain.url], directory) as node:
        assert (await node.get(blob(digest), keep_body=False)).sha256 == digest
    cache = {"path": str(directory), "reserveFree": "1Mi"}
    times = {"clientStall": "400ms"} if request.node.get_closest_marker("short_budgets") else None
    configuration = settings([plain.url], timeouts=times, cache=cache)
    async with started(configuration | {"listeners": [settled]}, tuning=tuning) as proxy:
        yield proxy.node if nodes is None else proxy.node.over(nodes)
    assert len(plain.record.of("blob")) == 1


@pytest.fixture
def digest(plain: ScriptedRegistry) -> str:
    return plain.add_blob(UPSTREAM, LARGE).digest


@pytest.fixture
def target(digest: str) -> str:
    return blob(digest)


def is_right(body: bytes) -> bool:
    return body == b"".join(LARGE.pieces(0, LARGE.size))


async def test_many_at_once_get_every_byte(near: NodeClient, target: str, digest: str) -> None:
    got = await asyncio.gather(*(near.get(target, keep_body=False) for _ in range(CLIENTS)))
    assert {answer.sha256 for answer in got} == {digest}


async def test_a_connection_serves_on_after_a_large_blob(near: NodeClient, target: str, digest: str) -> None:
    """Also where the next requests came while it was being sent."""
    async with asyncio.timeout(WITHIN), near.opened("GET", target) as (reader, writer):
        for _ in range(2):
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {near.host}\r\n\r\n".encode())
        for _ in range(3):
            got = await read_answer(reader, "GET", keep_body=False)
            assert (got.whole, got.sha256) == (True, digest)


@pytest.mark.short_budgets
async def test_a_client_that_takes_nothing_is_cut(near: NodeClient, target: str) -> None:
    before = metric("scope_proxy_http_aborted_total", reason="client_gone")
    async with asyncio.timeout(WITHIN), near.opened("GET", target, receive_buffer=FEW_BYTES) as (reader, _):
        await eventually(lambda: metric("scope_proxy_http_aborted_total", reason="client_gone") == before + 1)
        assert len(await rest_of(reader)) < LARGE.size


async def test_who_leaves_in_the_middle_is_noticed(near: NodeClient, target: str) -> None:
    before = metric("scope_proxy_http_aborted_total", reason="client_gone")
    async with reading(near, target, MIB) as (_, _, writer):
        writer.transport.abort()
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="blob") == 0)
    assert metric("scope_proxy_http_aborted_total", reason="client_gone") == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [AT_ONCE, server_tuning(local_buffer=4 * MIB)], ids=["small", "large"])
async def test_slow_and_fast_clients_get_the_same(near: NodeClient, target: str, digest: str) -> None:
    async with asyncio.timeout(WITHIN), near.opened("GET", target, receive_buffer=65536) as (reader, _):
        status, _, _ = await read_head(reader)
        first = await reader.readexactly(FEW_BYTES)
        fast = await near.get(target, keep_body=False)
        assert (status, fast.sha256) == (200, digest)
        assert is_right(first + await reader.readexactly(LARGE.size - FEW_BYTES))


async def test_a_disk_that_breaks_in_the_middle_cuts_and_says_why(
    near: NodeClient, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = metric("scope_proxy_http_aborted_total", reason="store")
    for call in ("preadv", "pread", "sendfile"):
        monkeypatch.setattr(os, call, breaking(getattr(os, call)))
    async with asyncio.timeout(WITHIN), near.opened("GET", target) as (reader, _):
        await read_head(reader)
        got = await rest_of(reader)
    assert len(got) < LARGE.size
    assert b"".join(LARGE.pieces(0, len(got))) == got
    assert metric("scope_proxy_http_aborted_total", reason="store") == before + 1


def breaking(call: Callable[..., int]) -> Callable[..., int]:
    """A system call that works five times."""
    left = iter(range(5))

    def limited(*given: Any) -> int:
        if next(left, None) is None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*given)

    return limited


async def test_the_event_loop_waits_for_no_disk(
    plain: ScriptedRegistry, directory: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system has dropped from its memory is there again before `sendfile` is called for it."""
    settled = {"verify": "ingest"}
    async with cached([plain.url], directory, cache=settled) as node:
        await node.get(blob(digest), keep_body=False)
        with stored_file(directory, digest).open("rb") as stored:
            os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        waited, sendfile = [], os.sendfile

        def send(connection: int, descriptor: int, offset: int, count: int) -> int:
            if threading.current_thread() is not threading.main_thread():
                return sendfile(connection, descriptor, offset, count)
            try:
                os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
                waited.append(False)
            except OSError:  # it would wait, or the file system cannot tell whether it would
                waited.append(True)
            return sendfile(connection, descriptor, offset, count)

        monkeypatch.setattr(os, "sendfile", send)
        got = await node.get(blob(digest), keep_body=False)
        assert (got.whole, got.sha256) == (True, digest)
    assert not any(waited)
    assert len(plain.record.of("blob")) == 1


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
async def test_where_the_file_system_cannot_tell_only_threads_read_it(
    plain: ScriptedRegistry, directory: Path, digest: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As on a network file system: nothing tells whether the event loop would wait for it."""
    in_loop: list[str] = []

    def refused(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    def noting(call: str) -> Callable[..., Any]:
        real: Callable[..., Any] = getattr(os, call)

        def made(*given: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                in_loop.append(call)
            return real(*given)

        return made

    async with cached([plain.url], directory) as node:
        await node.get(blob(digest), keep_body=False)
        monkeypatch.setattr(os, "preadv", refused)
        for call in ("sendfile", "pread"):
            monkeypatch.setattr(os, call, noting(call))
        got = await node.get(blob(digest), keep_body=False)
        assert (got.whole, got.sha256, got.header("X-Cache")) == (True, digest, "hit")
    assert in_loop == []
