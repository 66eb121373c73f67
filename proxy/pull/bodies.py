"""Reading whole bodies, with a cap."""

from proxy.metrics import UPSTREAM_BYTES, Bound
from proxy.upstream.ask import Opened
from proxy.upstream.failure import Wrong

_BYTES = Bound(UPSTREAM_BYTES)


async def read_whole(opened: Opened, limit: int, what: str) -> bytes:
    """The body of an answer, which is closed then; raises Wrong where it has more than `limit` bytes."""
    body = await read_at_most(opened, limit)
    if len(body) > limit:
        raise Wrong(f"{opened.target.endpoint.origin.authority} sent a {what} of more than {limit} bytes")
    opened.close()
    return body


async def read_at_most(opened: Opened, limit: int) -> bytes:
    """The beginning of a body: the whole of it where it has at most `limit` bytes, else some more than that."""
    body = bytearray()
    while len(body) <= limit and (chunk := await opened.response.content.readany()):
        _BYTES[opened.upstream,].inc(len(chunk))
        body += chunk
    return bytes(body)


def content_length(opened: Opened) -> int | None:
    """The length that the answer's header tells, in bytes; None where it tells none."""
    text = opened.response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None
