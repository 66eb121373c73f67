"""Sending content that is still on its way: behind its writer, and past whatever befalls it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from proxy.pull.blob import Piece
from proxy.pull.download import READ_BATCH
from proxy.pull.progress import ContentSpan, Progress, sendable
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
