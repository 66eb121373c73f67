"""A response whose body is still to come: read up to a limit, and its connection given back."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import aiohttp
from prometheus_client import Counter

from proxy.transport.clock import at_upstream
from proxy.transport.limits import LARGE_BODY, LARGE_SECONDS, HostPlace, QueueFull, large_place

LOOK_SECONDS = 1.0
"""How often it is looked whether others wait for a body."""
ERROR_BODY_LIMIT = 64 * 1024
"""Bytes of an error's body that are read."""


class HttpResponse:
    """A response with its body still to be read; whoever has it must close it.

    It holds the `place` at the host until then; `received` counts the bytes that are read, those of errors aside.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        elsewhere: bool = False,
        place: HostPlace | None = None,
        received: Counter | None = None,
    ) -> None:
        self._response = response
        self._place = place
        self._received = received
        self.status = response.status
        self.method = response.method
        self.headers = response.headers
        self.url = response.url
        self.elsewhere = elsewhere
        """Whether it came from another origin than the one that the request was for."""
        length = self.headers.get("Content-Length", "")
        self.content_length = int(length) if length.isascii() and length.isdigit() else None
        """The length that the header tells, in bytes; None where it tells none."""

    async def chunks(self, stall: float | None = None) -> AsyncGenerator[bytes, None]:
        """The body as it comes; raises TimeoutError where nothing comes for `stall` seconds."""
        while True:
            async with asyncio.timeout(stall):
                chunk = await self._response.content.readany()
            if not chunk:
                return
            if self._received is not None:
                self._received.inc(len(chunk))
            yield chunk

    async def read_at_most(self, limit: int) -> bytes:
        """The beginning of the body: all of it where it has at most `limit` bytes, else some more than that."""
        async with AsyncExitStack() as stack:
            return await self._read(limit, stack)

    async def _read(self, limit: int, stack: AsyncExitStack) -> bytes:
        """What `read_at_most` reads; a large body has a place until the end of the stack.

        Raises QueueFull where others wait for the place, and it has had time to come.
        """
        body = bytearray()
        async with aclosing(self.chunks()) as chunks:
            while len(body) <= min(limit, LARGE_BODY):
                with at_upstream():  # and not below, while it waits for its place
                    chunk = await anext(chunks, b"")
                if not chunk:
                    return bytes(body)
                body += chunk
        place = await stack.enter_async_context(large_place(len(body)))
        until = time.monotonic() + LARGE_SECONDS
        while place is not None and len(body) <= limit:
            more = await self._next(LOOK_SECONDS)
            if more == b"":
                break
            body += more or b""
            if time.monotonic() > until and place.reclaim():
                raise QueueFull("a large body comes slowly, and others wait for its place")
        return bytes(body)

    async def _next(self, seconds: float) -> bytes | None:
        """The next bytes, none at the end; None where nothing comes for so many seconds."""
        try:
            with at_upstream():
                async with asyncio.timeout(seconds):
                    chunk = await self._response.content.readany()
        except TimeoutError:
            return None
        if chunk and self._received is not None:
            self._received.inc(len(chunk))
        return chunk

    async def read_and_close(self, limit: int) -> bytes:
        """The body up to one byte more than the limit; the response is closed, however the reading ends."""
        try:
            body = await self.read_at_most(limit)
        finally:
            self.close()
        return body[: limit + 1]

    async def read_error(self) -> str:
        """The text of an error's body, at most 64 KiB; the response is closed, however the reading ends."""
        body = bytearray()
        try:
            with at_upstream():
                while len(body) < ERROR_BODY_LIMIT and (chunk := await self._response.content.readany()):
                    body += chunk
        except (aiohttp.ClientError, TimeoutError):
            pass  # what has come has to do
        finally:
            # Also when the budget is spent or the client has left: a connection not given back is lost for good.
            self.close()
        return body[:ERROR_BODY_LIMIT].decode(errors="replace")

    def close(self) -> None:
        """Give connection and place back; a body that was not read to its end costs the connection."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
        self.release_place()

    def abort(self) -> None:
        """Close the connection, whatever was read, and give the place back."""
        self._response.close()
        self.release_place()

    def release_place(self) -> None:
        """Give the place at the host back, if it is still held."""
        if self._place is not None:
            place, self._place = self._place, None
            place.release()

    def reclaim(self) -> bool:
        """Whether the place must be released now, as others wait for it."""
        return self._place is not None and self._place.reclaim()
