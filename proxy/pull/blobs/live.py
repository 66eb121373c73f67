"""A blob on its way to a client, and the content behind it, which becomes known to be right while it grows."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from proxy.oci.byterange import ByteRange, Span
from proxy.oci.reference import Digest
from proxy.routing.table import RepositoryKey, Starter
from proxy.store.blobs import Content, Origins
from proxy.transport.limits import Requesters
from proxy.upstream.body import BodyBroken, ResumingBody

HELD_BACK = 16 * 1024
"""Bytes at the end of a client's request that it gets only once the digest is right."""

STEP = 8 * 1024 * 1024
"""Bytes that arrive before followers are notified again, fewer at the beginning: each follower sends much in one go,
and does not slow the download down."""
RATE_SECONDS = 2.0
"""Over how long the rate of a download is measured."""
STEP_SECONDS = 0.05
"""Followers are notified after this long all the same."""


class ContentWrong(Exception):
    """The bytes do not have their digest."""


class Abandoned(Exception):
    """Whoever wrote the content has ended without finishing it."""


class WriterStalled(Abandoned):
    """Another process holds the right to write the content, and does nothing: looking for it again is in vain."""


class Progress:
    """Bytes that arrive, or are checked; read behind `available`, and complete once `verified`."""

    def __init__(self, asked_by: Starter | None = None, endpoints: Origins = frozenset()) -> None:
        self.asked_by = asked_by
        """For whom it is fetched; None for what is stored."""
        self.origins = endpoints
        """Who delivers it: whoever may, until it has started; empty for what is stored."""
        self.is_remote = False
        """Whether another process writes it: one that may be stopped, or wait for its disk without end."""
        self._window = (time.monotonic(), 0)
        self._rate: float | None = None
        self.requesters: Requesters | None = None
        """The clients that wait for a download."""
        self.content: Content | None = None
        self.size: int | None = None
        self.available = 0
        """Bytes that readers may take: those that have arrived, or somewhat fewer."""
        self._arrived = 0
        self._soon: asyncio.TimerHandle | None = None
        self.verified = False
        self.failure: Exception | None = None
        self.confirmed: RepositoryKey | None = None
        """The repository of which the upstream gave it."""
        self.started = asyncio.Event()
        """Set when the size is known, as far as anybody tells it, or when it has failed."""
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self._readers = 0
        self._finished = False

    def start(self, content: Content, size: int | None) -> None:
        """Bytes are to be expected in `content`, `size` of them if that is known."""
        self.content, self.size = content, size
        self.started.set()
        self._publish()

    def advance(self, arrived: int) -> None:
        """So many bytes have arrived; followers are notified at once, or soon."""
        self._arrived = arrived
        if arrived - self.available >= min(self.available, STEP):
            self._publish()
        elif self._soon is None and arrived > self.available:
            self._soon = asyncio.get_running_loop().call_later(STEP_SECONDS, self._publish)

    def complete(self, size: int) -> None:
        """All bytes are there, and they are right."""
        self._arrived = self.size = size
        self.verified = True
        self._publish()

    def fail(self, error: Exception) -> None:
        """Nothing more will come."""
        self.failure = error.with_traceback(None)  # whose frames hold this object
        self.started.set()
        self._publish()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come: all of it is there and right, or it has failed."""
        return self.verified or self.failure is not None

    async def changed(self, seconds: float | None = None) -> None:
        """Wait for the next change, for so many seconds at the most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def is_slower(self, rate: float) -> bool:
        """Whether it has brought fewer bytes a second than `rate`, over the last 2 s or more."""
        since, before = self._window
        passed = time.monotonic() - since
        if passed >= RATE_SECONDS:
            self._rate = (self._arrived - before) / passed
            self._window = (since + passed, self._arrived)
        return self._rate is not None and self._rate < rate and not self.verified

    def is_for_other(self, starter: Starter) -> bool:
        """Whether it is fetched for another repository or client, whose trouble is not this one's."""
        return self.asked_by not in (None, starter)

    async def deserted(self) -> None:
        """Wait until it has started and nobody reads it any more."""
        await self.started.wait()
        while self._readers > 0:
            await self._left.wait()

    def retain(self) -> None:
        """Keep the content open."""
        self._readers += 1

    def release(self) -> None:
        """Let go of the content; it is closed when nobody needs it."""
        self._readers -= 1
        if self._readers <= 0:
            left, self._left = self._left, asyncio.Event()
            left.set()
        self._close_if_unused()

    def finish(self) -> None:
        """Its writer needs the content no more."""
        self._finished = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._finished and self._readers <= 0 and self.content is not None:
            self.content.close()
            self.content = None

    def _publish(self) -> None:
        """Notify followers of what has arrived."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self.available = self._arrived
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@dataclass(frozen=True, slots=True)
class ContentSpan:
    """Bytes of some content, to be sent from where they lie."""

    content: Content
    offset: int
    length: int


def sendable(progress: Progress, offset: int, last: int | None, *, hold_all: bool) -> int:
    """How many bytes from `offset` on may be sent now; `last` is the last byte wanted, None for the end.

    Until the digest is known to be right the tail is held back, or with `hold_all` everything.
    """
    if progress.verified:
        end = progress.available if last is None else min(progress.available, last + 1)
    elif hold_all:
        return 0
    else:
        wanted = progress.available if last is None else last + 1
        end = min(progress.available, wanted - HELD_BACK)
    return max(end - offset, 0)


Piece = bytes | ContentSpan
"""What is sent: bytes in memory, or bytes where they lie."""


class CacheResult(StrEnum):
    """The five ways in which a pull is served."""

    HIT = "hit"
    JOIN = "join"
    MISS = "miss"
    STALE = "stale"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class BlobHead:
    """What a HEAD of a blob reports: its size in bytes, and whether it is stored, on its way, or known upstream."""

    size: int
    way: CacheResult


class DigestMismatch(BodyBroken):
    """The bytes of a blob do not have its digest; its tail has not been sent."""


class Blob(ABC):
    """A blob, or a part of it, ready to be sent: it is let go of at the end of the block that it is used in."""

    __slots__ = ("content", "digest", "size", "span", "way")

    def __init__(
        self,
        digest: Digest,
        size: int | None,
        span: Span | None,
        *,
        way: CacheResult = CacheResult.BYPASS,
        content: bytes | None = None,
    ) -> None:
        self.digest = digest
        self.size = size
        """That of the whole in bytes; None where nobody knows it."""
        self.span = span
        """The part that is sent; None for all."""
        self.way = way
        self.content = content
        """All that is sent, where it is small and in memory: then `pieces` need not be used."""

    @property
    def length(self) -> int | None:
        """How many bytes are sent."""
        return self.span.length if self.span else self.size

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def pieces(self) -> AsyncGenerator[Piece, None]:
        """What is sent, to be read once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is behind it."""

    def reclaim(self) -> bool:
        """Whether the upstream's place that is held while the client reads must be released now, as others wait."""
        return False

    def distrust(self) -> None:  # noqa: B027 - only what is stored can be distrusted
        """The bytes could not be sent: what is stored is checked before it is served again."""


class MemoryBlob(Blob):
    """A small blob, or a part of it, that is in memory."""

    __slots__ = ()

    def __init__(
        self, digest: Digest, whole: bytes, wanted: ByteRange | None, way: CacheResult = CacheResult.BYPASS
    ) -> None:
        """Raises RangeInvalid where it does not have the range."""
        span = None if wanted is None else wanted.resolve(len(whole))
        part = whole if span is None else whole[span.first : span.last + 1]
        super().__init__(digest, len(whole), span, way=way, content=part)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """All of it."""
        yield self.content or b""

    def close(self) -> None:
        """There is nothing to let go of."""


class Passing:
    """The body that a client reads straight from an upstream, once it does."""

    __slots__ = ("body",)

    def __init__(self) -> None:
        self.body: ResumingBody | None = None

    def reclaim(self) -> bool:
        """Whether the place that it holds must be released now, as others wait for it."""
        return self.body is not None and self.body.reclaim()
