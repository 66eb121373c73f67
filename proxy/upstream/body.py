"""Bodies of answers: read whole with a cap, or resumed after a break where they ended."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

import aiohttp

from proxy.observe.metrics import UPSTREAM_BYTES, UPSTREAM_RESUMES, Bound
from proxy.oci.byterange import ByteRange, Span
from proxy.oci.errors import RegistryError
from proxy.routing.table import Route, Target
from proxy.transport.clock import Deadline
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import Wrong
from proxy.upstream.send import Ask, Opened

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


RESUMES_LIMIT = 3
"""Times that one body is gone on with."""

_logger = logging.getLogger(__name__)


class BodyBroken(Exception):
    """The body ended early and could not be gone on with: whoever reads it must not take it for complete."""


@dataclass(frozen=True, slots=True)
class BodySource:
    """Where a body came from, so that it can be asked for again; times in seconds."""

    client: UpstreamClient
    route: Route
    ask: Ask
    stall: float
    """Without a byte, before the body counts as stalled."""
    headers: float
    """For the headers of an answer that goes on."""


class ResumingBody:
    """The bytes `first` to `last` of a blob, whatever happens to the connections that carry them.

    Without a known `last` the end of the answer is the end. `position` is the byte that the answer begins with, where
    that is not `first`: a server without ranges sends a blob from its beginning, and what comes first is passed over.
    """

    def __init__(
        self, source: BodySource, opened: Opened, first: int, last: int | None, *, position: int | None = None
    ) -> None:
        self._source = source
        self._opened = opened
        self._offset = first
        self._position = first if position is None else position
        self._last = last
        self.origins = {opened.target.endpoint.origin}
        """The endpoints that have sent bytes of it, redirects to object stores aside."""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order; raises BodyBroken."""
        for attempt in range(RESUMES_LIMIT + 1):
            if attempt:
                await self._resume()
            try:
                async with aclosing(self._read()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
                _logger.warning(
                    "%s %s broke at byte %d: %s",
                    self._source.route.registry,
                    self._source.ask.suffix,
                    self._offset,
                    type(error).__name__,
                )
            else:
                if self._last is None or self._offset > self._last:
                    self.close()  # a client that reads the last bytes slowly holds up nobody
                    return
        raise BodyBroken(
            f"{self._source.ask.suffix} broke off at byte {self._offset}, after {RESUMES_LIMIT} attempts to go on"
        )

    def close(self) -> None:
        """Give the connection back."""
        self._opened.close()

    def reclaim(self) -> bool:
        """Whether the host's place that it holds must be released now, as others wait for it."""
        return self._opened.reclaim()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """Chunks of the current connection from the byte that is wanted next, never beyond the last one."""
        while self._last is None or self._offset <= self._last:
            chunk = await self._receive()
            if not chunk:
                if self._position < self._offset:
                    raise aiohttp.ClientPayloadError("the blob sent again is shorter than before")
                return
            passed_over = self._offset - self._position
            self._position += len(chunk)
            chunk = chunk[passed_over:]
            if self._last is not None:
                chunk = chunk[: self._last + 1 - self._offset]
            if chunk:
                self._offset += len(chunk)
                yield chunk

    async def _receive(self) -> bytes:
        """What has come, empty at the end; raises TimeoutError where nothing comes for too long."""
        async with asyncio.timeout(self._source.stall):
            chunk = await self._opened.response.content.readany()
        _BYTES[self._source.route.upstream,].inc(len(chunk))
        return chunk

    async def _resume(self) -> None:
        """Ask for the rest, of whichever endpoint has it; raises BodyBroken."""
        self._opened.close()
        UPSTREAM_RESUMES.labels(self._source.route.upstream).inc()
        source = self._source
        route = others_first(source.route, self._opened.target)
        ask = replace(source.ask, range=ByteRange(self._offset, self._last))
        deadline = Deadline.after(source.headers)
        try:
            self._opened = await source.client.fetch(route, ask, deadline, self._check_resumed)
            self.origins.add(self._opened.target.endpoint.origin)
        except RegistryError as error:
            raise BodyBroken(f"{self._source.ask.suffix} broke off at byte {self._offset}: {error.reason}") from error

    async def _check_resumed(self, opened: Opened) -> Opened:
        """The answer, if the byte that is wanted next is in it; raises Wrong."""
        response, host = opened.response, opened.target.endpoint.origin.authority
        if response.status == 206:  # noqa: PLR2004
            span = Span.parse(response.headers.get("Content-Range"))
            if span is None or span.first != self._offset:
                raise Wrong(f"{host} sent another range than was asked for")
            self._position = self._offset
        else:
            refuse_shorter(opened, self._offset)
            self._position = 0
        return opened


def refuse_shorter(opened: Opened, count: int) -> None:
    """Raise Wrong for an answer with a whole blob that has fewer bytes than have come before."""
    size = opened.response.content_length
    if size is not None and size < count:
        raise Wrong(f"{opened.target.endpoint.origin.authority}: the blob sent again is shorter than before")


def others_first(route: Route, target: Target) -> Route:
    """The route with one target at its end: what it sent was broken or wrong."""
    return replace(route, targets=(*(item for item in route.targets if item != target), target))
