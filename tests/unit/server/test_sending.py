"""Sending through memory: nobody else waits for it, and it waits for whoever is slow."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from proxy.pull.blobs.live import ContentSpan
from proxy.server.send import TURN, SpanSender
from proxy.store.blobs import StoreError
from proxy.store.file_content import FileContent

SIZE = 5 * 1024 * 1024
STALL = 0.05


class Secured(asyncio.Transport):
    """A connection with TLS, as it looks from outside."""

    def __init__(self) -> None:
        super().__init__(extra={"sslcontext": object()})

    def is_closing(self) -> bool:
        return False


class Taking(web.StreamResponse):
    """An answer to a client that takes so many pieces at once, and nothing from then on."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.content_length = SIZE
        self.taken = bytearray()
        self._left = pieces

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self._left -= 1
        if self._left < 0:
            await asyncio.Event().wait()
        self.taken += data


@pytest.fixture
def content(tmp_path: Path) -> Iterator[FileContent]:
    path = tmp_path / "content"
    path.write_bytes(os.urandom(SIZE))
    opened = FileContent(os.open(path, os.O_RDONLY))
    yield opened
    opened.close()


class ClosesWhileRead(asyncio.Transport):
    """A plain connection that closes while the disk is read: it is open only at the first look."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def is_closing(self) -> bool:
        self._looks += 1
        return self._looks > 1


def sender(response: web.StreamResponse, stall: float = STALL) -> SpanSender:
    return SpanSender(make_mocked_request("GET", "/", transport=Secured()), response, stall)


async def test_a_client_that_takes_all_at_once_lets_others_have_their_turns(content: FileContent) -> None:
    turns, response = 0, Taking(pieces=SIZE)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(others())
        await sender(response, stall=60).send(ContentSpan(content, 0, SIZE))
        waiting.cancel()
    assert response.taken == os.pread(content.descriptor, SIZE, 0)
    assert turns >= SIZE // TURN - 1


async def test_a_client_that_takes_no_more_is_given_up(content: FileContent) -> None:
    response = Taking(pieces=3)
    with pytest.raises(TimeoutError):
        await sender(response).send(ContentSpan(content, 100, SIZE - 100))
    assert response.taken == os.pread(content.descriptor, SIZE, 100)[: len(response.taken)]


async def test_content_that_is_shorter_than_it_was_is_no_end(content: FileContent) -> None:
    os.truncate(f"/proc/self/fd/{content.descriptor}", SIZE // 2)
    with pytest.raises(StoreError, match="truncated"):
        await sender(Taking(pieces=SIZE), stall=60).send(ContentSpan(content, 0, SIZE))


async def test_a_client_that_leaves_while_the_disk_is_read_is_no_bug(content: FileContent) -> None:
    """`sendfile` on a closing transport raises RuntimeError, which would be logged as a bug."""
    response = Taking(pieces=SIZE)
    leaving = SpanSender(make_mocked_request("GET", "/", transport=ClosesWhileRead()), response, stall=60)
    with pytest.raises(ConnectionResetError):
        await leaving.send(ContentSpan(content, 0, SIZE))
    assert response.taken == b""
