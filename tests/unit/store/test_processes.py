"""Several processes at one store."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.blobs import Arrival
from proxy.store.filesystem import FilesystemStore
from proxy.store.layout import Layout
from tests.unit.store.support import ended, made, opened, process, put, said

DATA = b"bytes of a layer" * 1000
DIGEST = Digest.of(DATA)
WRITER = """
digest = Digest.parse(sys.argv[2])
store = FilesystemStore(layout, Index(layout))
async def run():
    ingest = await store.begin(digest)
    size = ingest.size
    await ingest.expect(16000, Origin("https", "registry.example", 443))
    await ingest.write(b"bytes of a layer" * 500)
    print("begun", size, flush=True)
    while (order := await asyncio.to_thread(input)) != "end":
        if order == "write":
            await ingest.write(b"bytes of a layer" * 500)
        else:
            await getattr(ingest, order)()
        print(order, flush=True)
asyncio.run(run())
os._exit(0)
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


@pytest.fixture
async def store(layout: Layout) -> AsyncIterator[FilesystemStore]:
    async with opened(layout) as (store, index):
        await index.tidied()
        yield store


class Writer:
    """Another process that stores DATA."""

    def __init__(self, layout: Layout) -> None:
        self.process = process(WRITER, layout.root, DIGEST)
        self.begun = said(self.process)

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        if text != "end":
            assert said(self.process) == text

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        ended(self.process)

    def end(self) -> None:
        self.order("end")
        assert ended(self.process) == 0


async def test_the_part_of_a_killed_writer_is_taken_over(store: FilesystemStore, layout: Layout) -> None:
    writer = await asyncio.to_thread(Writer, layout)
    assert writer.begun == "begun 0"
    assert await store.begin(DIGEST) is None
    await asyncio.to_thread(writer.kill)
    assert await store.find(DIGEST) is None
    assert await store.arriving(DIGEST) is None  # nobody writes it
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    assert ingest.size == 8000
    assert await ingest.read(0, 8000) == DATA[:8000]
    await ingest.write(DATA[8000:])
    await ingest.commit()
    ingest.close()
    assert layout.blob(DIGEST).read_bytes() == DATA
    assert list(layout.ingest.iterdir()) == []


@pytest.mark.parametrize("evicted", [False, True])
async def test_another_process_is_followed_to_its_commit(store: FilesystemStore, layout: Layout, evicted: bool) -> None:
    writer = await asyncio.to_thread(Writer, layout)
    arriving = await store.arriving(DIGEST)
    assert arriving is not None
    assert await arriving.poll() is Arrival.GROWING
    assert (arriving.total, arriving.size) == (16000, 8000)
    await asyncio.to_thread(writer.order, "write")
    await asyncio.to_thread(writer.order, "commit")
    if evicted:  # before the follower has looked
        assert await store.remove(DIGEST)
    assert await arriving.poll() is Arrival.COMMITTED
    assert arriving.size == 16000
    assert await arriving.read(0, 20000) == DATA
    arriving.close()
    await asyncio.to_thread(writer.end)


@pytest.mark.parametrize("how", ["abort", "kill"])
async def test_a_follower_sees_that_its_writer_gave_up(store: FilesystemStore, layout: Layout, how: str) -> None:
    writer = await asyncio.to_thread(Writer, layout)
    arriving = await store.arriving(DIGEST)
    assert arriving is not None
    if how == "abort":
        await asyncio.to_thread(writer.order, "abort")
        await asyncio.to_thread(writer.end)
    else:
        await asyncio.to_thread(writer.kill)
    assert await arriving.poll() is Arrival.ABANDONED
    assert await arriving.read(0, 20000) == DATA[:8000]
    arriving.close()


async def test_a_follower_sees_a_second_writer_go_on(store: FilesystemStore, layout: Layout) -> None:
    writer = await asyncio.to_thread(Writer, layout)
    arriving = await store.arriving(DIGEST)
    assert arriving is not None
    await asyncio.to_thread(writer.kill)
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    assert await arriving.poll() is Arrival.GROWING
    await ingest.write(DATA[8000:])
    await ingest.commit()
    ingest.close()
    assert await arriving.poll() is Arrival.COMMITTED
    assert arriving.size == 16000
    arriving.close()


async def test_a_follower_of_a_part_that_was_swept_does_not_get_another_commit(
    store: FilesystemStore, layout: Layout
) -> None:
    writer = await asyncio.to_thread(Writer, layout)
    arriving = await store.arriving(DIGEST)
    assert arriving is not None
    await asyncio.to_thread(writer.kill)
    layout.part(DIGEST).unlink()  # the lock's file stays
    await put(store, DATA)
    assert await arriving.poll() is Arrival.ABANDONED
    arriving.close()


async def test_the_last_bytes_are_never_missed(store: FilesystemStore) -> None:
    """Followers that look at any moment see all bytes once they see the commit."""
    for number in range(60):
        data = f"{number}".encode() * 3000
        digest = Digest.of(data)
        ingest = await store.begin(digest)
        assert ingest is not None
        arriving = await store.arriving(digest)
        assert arriving is not None

        async def follow(arriving: object = arriving, data: bytes = data) -> None:
            assert hasattr(arriving, "poll")
            while (await arriving.poll()) is Arrival.GROWING:
                pass
            assert arriving.size == len(data)  # type: ignore[attr-defined]

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            await ingest.write(data[:100])
            await ingest.write(data[100:])
            await ingest.commit()
        ingest.close()
        arriving.close()


RACER = """
data = b"bytes of a layer" * 1000
digest = Digest.of(data)
async def run():
    index = Index(layout)
    await index.open()
    store = FilesystemStore(layout, index)
    for number in range(60):
        ingest = await store.begin(digest)
        if ingest is not None:
            await ingest.write(data)
            await ingest.commit()
            ingest.close()
        content = await store.find(digest)
        if number % 3 == int(sys.argv[2]):
            await store.remove(digest)
        if content is not None:
            assert await content.read(0, 20000) == data
            content.close()
        if number % 10 == 0:
            sweep(layout)
    await index.close()
asyncio.run(run())
print("right")
"""


def test_processes_that_commit_and_evict_one_digest(layout: Layout) -> None:
    others = [process(RACER, layout.root, number) for number in range(3)]
    assert [said(other) for other in others] == ["right"] * 3
    assert [ended(other) for other in others] == [0] * 3
    assert list(layout.ingest.iterdir()) == []

    async def counted() -> tuple[int, int]:
        async with opened(layout) as (_, index):
            totals = await index.totals()  # before it is compared with the files, if that is fast
            await index.tidied()
            assert totals == await index.totals()
            return totals.bytes, totals.objects

    stored = list(layout.blobs())
    assert asyncio.run(counted()) == (16000 * len(stored), len(stored))
