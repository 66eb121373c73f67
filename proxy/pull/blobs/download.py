"""A download in flight: one writer, owned by the application, and however many read behind it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from proxy.observe.tracing import span
from proxy.oci.reference import Digest
from proxy.pull.blobs.live import ContentWrong, Progress
from proxy.store.blobs import Content, Ingest, Origins

QUEUE_CHUNKS = 16
"""Chunks that may have arrived and not be written yet; the connection pauses beyond."""
BATCH = 4 * 1024 * 1024
"""Bytes that are hashed and written in one go at the most."""
READ_BATCH = 1024 * 1024
"""Bytes that are read at once to be hashed again."""


class Hasher(Protocol):
    """What hashlib gives."""

    def update(self, data: bytes, /) -> None:
        """Take in further bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


async def rehash(content: Content, hasher: Hasher, end: int) -> None:
    """Take the first `end` bytes of some content into a hash; raises StoreError, and ContentWrong for fewer bytes."""
    offset = 0
    while offset < end:
        data = await content.read(offset, min(READ_BATCH, end - offset))
        if not data:
            raise ContentWrong("the content is shorter than it was")
        await asyncio.to_thread(hasher.update, data)
        offset += len(data)


async def write_through(
    progress: Progress,
    ingest: Ingest,
    digest: Digest,
    hasher: Hasher,
    chunks: AsyncGenerator[bytes, None],
    *,
    delivered_by: Callable[[], Origins | None],
) -> None:
    """Hash and store what arrives, notify followers, and commit it if the digest is right.

    `delivered_by` says in the end who has sent it. Raises StoreError, ContentWrong, and what `chunks` raises.
    """
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_CHUNKS)
    broken: list[Exception] = []

    async def receive() -> None:
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    await queue.put(chunk)
        except Exception as error:  # noqa: BLE001 - raised below: what arrived before is still written and sent on
            broken.append(error)
        await queue.put(None)

    async def store() -> None:
        while batch := await _batch(queue):
            # Two threads, as neither holds the interpreter's lock: hashing costs as much as writing.
            await asyncio.gather(asyncio.to_thread(_hash, hasher, batch), ingest.write(*batch))
            progress.advance(ingest.size)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(receive())
            tasks.create_task(store())
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    if broken:
        raise broken[0]
    if hasher.hexdigest() != digest.hex:
        raise ContentWrong(f"the upstream sent content that does not match {digest}")
    size = ingest.size
    with span("store", digest=digest.text):
        await ingest.commit(delivered_by())
    progress.complete(size)


async def check(progress: Progress, content: Content, digest: Digest) -> None:
    """Hash stored content again while it is read; raises StoreError and ContentWrong."""
    hasher, offset = digest.hasher(), 0
    progress.start(content, content.size)
    while data := await content.read(offset, READ_BATCH):
        await asyncio.to_thread(hasher.update, data)
        offset += len(data)
        progress.advance(offset)
    if hasher.hexdigest() != digest.hex:
        raise ContentWrong(f"the stored bytes of {digest} have changed")
    progress.complete(offset)


def _hash(hasher: Hasher, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        hasher.update(piece)


async def _batch(queue: asyncio.Queue[bytes | None]) -> list[bytes]:
    """All that has arrived, up to 4 MiB, in its pieces: joining them would copy it. Empty at the end."""
    first = await queue.get()
    if first is None:
        return []
    batch, size = [first], len(first)
    while size < BATCH and not queue.empty():
        chunk = queue.get_nowait()
        if chunk is None:
            queue.put_nowait(None)  # for the next call
            break
        batch.append(chunk)
        size += len(chunk)
    return batch


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that the others followed from."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
