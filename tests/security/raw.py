"""Bytes as they are, sent to a proxy, and all that comes back until the connection ends."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.fakes.client import WITHIN, NodeClient

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One answer as it came."""

    status: int
    head: bytes
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The value of a header."""
        for line in self.head.decode("ascii").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None

    @property
    def code(self) -> str:
        """The code of the one error in the body."""
        [error] = json.loads(self.body)["errors"]
        return str(error["code"])


@asynccontextmanager
async def connected(node: NodeClient, *pieces: bytes, receive_buffer: int | None = None) -> AsyncIterator[Connection]:
    """A connection to the proxy, on which these are sent one after the other."""
    async with asyncio.timeout(WITHIN):
        reader, writer = await node.connect(receive_buffer)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def sent_raw(node: NodeClient, *pieces: bytes, bodiless: bool = False) -> list[RawAnswer]:
    """The answers until the proxy ends the connection, to pieces that are sent one after the other."""
    async with asyncio.timeout(WITHIN), connected(node) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        return answers_of(await until_end(reader), bodiless=bodiless)


async def until_end(reader: asyncio.StreamReader) -> bytes:
    """Everything until the connection ends, in whatever way."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            found += piece
    return bytes(found)


def answers_of(text: bytes, *, bodiless: bool = False) -> list[RawAnswer]:
    """The answers in what came: each is whole, and nothing else is there."""
    found = []
    while text:
        head, end, text = text.partition(b"\r\n\r\n")
        assert end, head
        version, status = head.split(b" ", 2)[:2]
        assert version in {b"HTTP/1.1", b"HTTP/1.0"}, head
        answer = RawAnswer(int(status), head, b"")
        length = 0 if bodiless else int(answer.header("Content-Length") or 0)
        assert len(text) >= length, head
        found.append(RawAnswer(int(status), head, text[:length]))
        text = text[length:]
    return found
