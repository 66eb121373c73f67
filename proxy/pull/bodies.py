"""Reading whole bodies, with a cap."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.metrics import UPSTREAM_BYTES, Bound
from proxy.transport.limits import Gate, Size
from proxy.upstream.ask import Opened
from proxy.upstream.failure import Wrong

LARGE = 256 * 1024
"""Bytes from which on a body is large, as hardly any is ..."""
LARGE_AT_ONCE = 4
"""... and so many of these are read and understood at one time; clients that wait for more take turns."""

_BYTES = Bound(UPSTREAM_BYTES)
_LARGE_BODIES = Gate(LARGE_AT_ONCE)


@asynccontextmanager
async def large_place(size: int) -> AsyncIterator[None]:
    """Wait until so many bytes may be read, and hold the place if they are many; raises QueueFull."""
    if size <= LARGE:
        yield
        return
    place = await _LARGE_BODIES.acquire(Size.SMALL)
    try:
        yield
    finally:
        place.release()


@asynccontextmanager
async def whole_body(opened: Opened, limit: int, what: str) -> AsyncIterator[bytes]:
    """Read the body of an answer, and close that, for a block that finds out what it is.

    Raises Wrong where it has more than `limit` bytes, and QueueFull where too many large ones wait.
    """
    async with AsyncExitStack() as stack:
        body = await _read(opened, limit, stack)
        if len(body) > limit:
            raise Wrong(f"{opened.target.endpoint.origin.authority} sent a {what} of more than {limit} bytes")
        opened.close()
        yield body


async def read_at_most(opened: Opened, limit: int) -> bytes:
    """The beginning of a body: the whole of it where it has at most `limit` bytes, else some more than that."""
    async with AsyncExitStack() as stack:
        return await _read(opened, limit, stack)


async def _read(opened: Opened, limit: int, stack: AsyncExitStack) -> bytes:
    """What `read_at_most` reads; a large body has a place until the end of the stack."""
    body, is_large = bytearray(), False
    while len(body) <= limit and (chunk := await opened.response.content.readany()):
        _BYTES[opened.upstream,].inc(len(chunk))
        body += chunk
        if len(body) > LARGE and not is_large:
            await stack.enter_async_context(large_place(len(body)))
            is_large = True
    return bytes(body)


def content_length(opened: Opened) -> int | None:
    """The length that the answer's header tells, in bytes; None where it tells none."""
    text = opened.response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None
