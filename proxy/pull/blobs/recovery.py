"""Sending content while it arrives: behind its writer, and from another source where that one fails."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from proxy.config.model import Timeouts
from proxy.oci.reference import Digest
from proxy.pull.blobs.download import READ_BATCH, rehash
from proxy.pull.blobs.live import (
    Abandoned,
    CacheResult,
    ContentSpan,
    ContentWrong,
    DigestMismatch,
    Passing,
    Piece,
    Progress,
    WriterStalled,
    sendable,
)
from proxy.pull.blobs.mismatched_digests import MismatchedDigests
from proxy.pull.blobs.passthrough import PassThrough, Rest
from proxy.routing.table import Route
from proxy.store.blobs import StoreError
from proxy.transport.clock import Deadline, DeadlineExceeded
from proxy.upstream.body import BodyBroken

RECOVERIES_LIMIT = 3
"""Times that one client is carried over to another source."""


@dataclass(slots=True)
class SentBytes:
    """The part that a client wants, and how far it has got; `last` is None for the end."""

    first: int
    last: int | None
    offset: int

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been sent."""
        return self.last is not None and self.offset > self.last


Recover = Callable[[Progress, SentBytes], Awaitable[Progress | AsyncGenerator[bytes, None]]]
"""Finds another source when one fails: progress to follow from the same offset, retained, or the rest itself."""


async def follow(
    progress: Progress, first: int, last: int | None, recover: Recover, *, hold_all: bool
) -> AsyncGenerator[Piece, None]:
    """The pieces from `first` to `last`, as they may be sent; raises what `recover` raises."""
    sent = SentBytes(first, last, first)
    progress.retain()
    recoveries = 0
    try:
        while not sent.is_complete:
            ready = sendable(progress, sent.offset, sent.last, hold_all=hold_all)
            if ready and progress.content is not None:
                yield ContentSpan(progress.content, sent.offset, ready)
                sent.offset += ready
            elif progress.verified:
                return
            elif progress.failure is None:
                await progress.changed()
            else:
                recoveries += 1
                if recoveries > RECOVERIES_LIMIT:
                    raise BodyBroken(f"it broke off at byte {sent.offset}: {progress.failure}")
                found = await recover(progress, sent)
                if not isinstance(found, Progress):
                    async with aclosing(found):
                        async for chunk in found:
                            yield chunk
                    return
                progress.release()
                progress = found
    finally:
        progress.release()


async def is_same(one: Progress, other: Progress, first: int, end: int) -> bool:
    """Whether two contents have the same bytes from `first` up to `end`; raises StoreError."""
    if one.content is None or other.content is None:
        return first >= end
    offset = first
    while offset < end:
        length = min(READ_BATCH, end - offset)
        left, right = await one.content.read(offset, length), await other.content.read(offset, length)
        if not left or left != right:
            return False
        offset += len(left)
    return True


ATTEMPTS = 3
"""Times that a source is looked for while those who write begin and end."""

_logger = logging.getLogger(__name__)

Find = Callable[[Route, Digest], Awaitable[tuple[Progress, CacheResult]]]
"""Gives what is stored or on its way, begun if need be, to be released by who gets it; raises StoreError."""


class Recovery:
    """Finds the source that a client goes on with."""

    def __init__(self, find: Find, passthrough: PassThrough, mismatched: MismatchedDigests, timeouts: Timeouts) -> None:
        self._find = find
        self._passthrough = passthrough
        self._mismatched = mismatched
        self._timeouts = timeouts

    def of(self, route: Route, digest: Digest, passing: Passing) -> Recover:
        """The recovery of one client's pull; `passing` gets the body that it reads straight from an upstream."""
        starter = route.starter

        async def recover(failed: Progress, sent: SentBytes) -> Progress | AsyncGenerator[bytes, None]:
            failure = failed.failure
            _logger.warning("%s failed at byte %d, going on elsewhere: %s", digest, sent.offset, failure)
            try:
                if isinstance(failure, StoreError | WriterStalled):
                    return await self._past_store(route, digest, failed, sent, passing)
                if isinstance(failure, ContentWrong | Abandoned) or failed.is_for_other(starter):
                    return await self._afresh(route, digest, failed, sent, passing)
            except StoreError as error:
                failure = error
            raise BodyBroken(f"{digest} broke off at byte {sent.offset}: {failure}")

        return recover

    async def _afresh(
        self, route: Route, digest: Digest, failed: Progress, sent: SentBytes, passing: Passing
    ) -> Progress | AsyncGenerator[bytes, None]:
        """Another source; it is followed only where what was sent before is what it begins with."""
        for _ in range(ATTEMPTS):
            fresh, _way = await self._find(route, digest)
            try:
                await self._wait(fresh, sent, all_of_it=isinstance(failed.failure, ContentWrong))
                if isinstance(fresh.failure, StoreError | WriterStalled):
                    return await self._past_store(route, digest, failed, sent, passing)
                if not isinstance(fresh.failure, Abandoned):
                    await self._compare(route, digest, failed, fresh, sent)
                    fresh.retain()
                    return fresh
            finally:
                fresh.release()
        return await self._past_store(route, digest, failed, sent, passing)  # whoever fetches it keeps ending

    async def _compare(self, route: Route, digest: Digest, failed: Progress, fresh: Progress, sent: SentBytes) -> None:
        """Make sure that what has been sent is right; raises BodyBroken, DigestMismatch and StoreError."""
        await self._refuse_failed(route, digest, failed, fresh, sent)
        if None not in (failed.size, fresh.size) and failed.size != fresh.size:
            # The client was sent a Content-Length that is wrong: the stored file was truncated.
            raise DigestMismatch(f"{digest} has {fresh.size} bytes and not {failed.size}")
        if not await is_same(failed, fresh, sent.first, sent.offset):
            await self._mismatched.add(route.registry, digest)
            raise DigestMismatch(f"corrupt content of {digest} had been sent, {sent.offset - sent.first} bytes")

    async def _wait(self, fresh: Progress, sent: SentBytes, *, all_of_it: bool) -> None:
        """Until there is enough to compare with, or it fails too; raises BodyBroken where it does not begin in time."""
        try:
            async with Deadline.after(self._timeouts.blob).enforced():
                await fresh.started.wait()
        except DeadlineExceeded:
            raise BodyBroken("the upstream has not begun to send it again in time") from None
        while not fresh.has_ended and (all_of_it or fresh.available < sent.offset):
            await fresh.changed()

    async def _refuse_failed(
        self, route: Route, digest: Digest, failed: Progress, fresh: Progress, sent: SentBytes
    ) -> None:
        if fresh.failure is None:
            return
        if isinstance(failed.failure, ContentWrong) and sent.offset > sent.first:
            await self._mismatched.add(route.registry, digest)
            raise DigestMismatch(f"corrupt content of {digest}, and no source has the right bytes: {fresh.failure}")
        raise BodyBroken(str(fresh.failure)) from fresh.failure

    async def _past_store(
        self, route: Route, digest: Digest, failed: Progress, sent: SentBytes, passing: Passing
    ) -> AsyncGenerator[bytes, None]:
        """The rest straight from the upstream; checked as a whole where the client gets the whole."""
        is_whole = sent.first == 0 and (failed.size is None or sent.last in (None, failed.size - 1))
        if isinstance(failed.failure, ContentWrong) and not is_whole and sent.offset > sent.first:
            await self._mismatched.add(route.registry, digest)
            raise DigestMismatch(f"corrupt content of {digest} may have been sent, and cannot be compared")
        hasher = digest.hasher() if is_whole and (failed.content is not None or not sent.offset) else None
        try:
            if hasher is not None and failed.content is not None:
                await rehash(failed.content, hasher, sent.offset)
        except (StoreError, ContentWrong) as error:
            raise BodyBroken(f"{digest} broke off at byte {sent.offset}: {error}") from error
        return self._passthrough.rest(Rest(route, digest, sent.offset, sent.last, hasher, passing))
