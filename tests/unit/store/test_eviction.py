import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.eviction import Bounds, Evictor, Obstacle
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index
from proxy.store.layout import Layout
from tests.unit.store.support import descriptors, made, opened, put, put_file, used

KIB = 1024
ORIGIN = Origin("https", "registry.example", 443)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


@pytest.fixture
async def store(layout: Layout) -> AsyncIterator[tuple[FilesystemStore, Index]]:
    """Ten objects of 1 KiB, the first used longest ago."""
    for number in range(10):
        put_file(layout, body(number), used=1000.0 + number)
    async with opened(layout) as found:
        await found[1].tidied()
        yield found


@pytest.fixture
async def evictor(layout: Layout, store: tuple[FilesystemStore, Index]) -> Callable[[int, int], Evictor]:
    index = (await store[1].totals()).index
    return lambda max_size, free: Evictor(layout, store[1], store[0], Bounds(max_size + index, free))


def body(number: int) -> bytes:
    return bytes([number]) * KIB


def left(layout: Layout) -> list[int]:
    return [number for number in range(10) if layout.blob(Digest.of(body(number))).exists()]


async def test_nothing_goes_while_there_is_room(layout: Layout, evictor: Callable[[int, int], Evictor]) -> None:
    assert await evictor(11 * KIB, 0).make_room(KIB)
    assert left(layout) == list(range(10))


async def test_what_was_used_longest_ago_goes_first(layout: Layout, evictor: Callable[[int, int], Evictor]) -> None:
    before = descriptors()
    assert await evictor(10 * KIB, 0).make_room(2 * KIB)
    assert left(layout) == list(range(3, 10))  # two, and a bit more
    assert descriptors() == before


async def test_what_was_used_meanwhile_stays(
    layout: Layout, store: tuple[FilesystemStore, Index], evictor: Callable[[int, int], Evictor]
) -> None:
    content = await store[0].find(Digest.of(body(0)))
    assert content is not None
    assert await evictor(10 * KIB, 0).make_room(2 * KIB)
    assert left(layout) == [0, *range(4, 10)]
    content.close()


async def test_a_store_that_has_become_too_large_shrinks(
    layout: Layout, evictor: Callable[[int, int], Evictor]
) -> None:
    assert await evictor(4 * KIB, 0).make_room()
    assert left(layout) == [7, 8, 9]


async def test_all_may_go(layout: Layout, evictor: Callable[[int, int], Evictor]) -> None:
    assert await evictor(10 * KIB, 0).make_room(10 * KIB)
    assert left(layout) == []


@pytest.mark.parametrize("size", [10 * KIB + 1, 1 << 50])
async def test_nothing_goes_for_what_would_never_fit(
    layout: Layout, evictor: Callable[[int, int], Evictor], size: int
) -> None:
    assert not await evictor(10 * KIB, 0).make_room(size)
    assert left(layout) == list(range(10))


async def test_the_disk_keeps_its_reserve(layout: Layout, store: tuple[FilesystemStore, Index]) -> None:
    def free(_: Path) -> int:
        return 100 * KIB - len(left(layout)) * KIB

    def evictor(reserve: int) -> Evictor:
        return Evictor(layout, store[1], store[0], Bounds(10**9, reserve), low_water=1.0, free=free)

    assert await evictor(90 * KIB).make_room()
    assert left(layout) == list(range(10))
    assert await evictor(90 * KIB).make_room(3 * KIB)
    assert left(layout) == list(range(3, 10))
    assert not await evictor(101 * KIB).make_room()
    assert await evictor(101 * KIB).prune() is Obstacle.DISK
    assert left(layout) == list(range(3, 10))


async def test_a_reader_does_not_notice(
    layout: Layout, store: tuple[FilesystemStore, Index], evictor: Callable[[int, int], Evictor]
) -> None:
    contents = [await store[0].find(Digest.of(body(number))) for number in range(10)]
    assert await evictor(10 * KIB, 0).make_room(10 * KIB)
    assert left(layout) == []
    for number, content in enumerate(contents):
        assert content is not None
        assert await content.read(0, KIB) == body(number)
        content.close()


async def test_downloads_in_flight_count(
    layout: Layout, store: tuple[FilesystemStore, Index], evictor: Callable[[int, int], Evictor]
) -> None:
    ingest = await store[0].begin(Digest.of(b"large"))
    assert ingest is not None
    await ingest.expect(4 * KIB, ORIGIN)
    await ingest.write(b"l" * KIB)
    bounded = evictor(14 * KIB, 0)
    assert await bounded.make_room()
    assert left(layout) == list(range(10))
    assert await bounded.make_room(2 * KIB)
    assert left(layout) == list(range(3, 10))
    assert not await bounded.make_room(11 * KIB)
    assert await evictor(3 * KIB, 0).prune() is Obstacle.DOWNLOADS
    assert left(layout) == list(range(3, 10))
    await ingest.abort()
    ingest.close()


async def test_what_a_killed_writer_left_goes_first(layout: Layout, evictor: Callable[[int, int], Evictor]) -> None:
    part = layout.part(Digest.of(b"left"))
    part.write_bytes(b"x" * 5 * KIB)
    part.with_suffix(".lock").write_text(f"{5 * KIB:<20}")
    assert await evictor(12 * KIB, 0).make_room(2 * KIB)
    assert left(layout) == list(range(10))
    assert not part.exists()


async def test_many_at_once_all_find_room(layout: Layout, evictor: Callable[[int, int], Evictor]) -> None:
    bounded = evictor(10 * KIB, 0)
    assert await asyncio.gather(*(bounded.make_room(2 * KIB) for _ in range(8))) == [True] * 8
    assert left(layout) == list(range(3, 10))


async def test_another_process_that_evicts_is_waited_for(
    layout: Layout, evictor: Callable[[int, int], Evictor]
) -> None:
    descriptor = os.open(layout.root / "evict.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    async with asyncio.TaskGroup() as tasks:
        made = tasks.create_task(evictor(10 * KIB, 0).make_room(2 * KIB))
        await asyncio.wait([made], timeout=0.1)
        assert not made.done()
        assert left(layout) == list(range(10))
        os.close(descriptor)
    assert made.result()


async def test_but_not_forever(layout: Layout, store: tuple[FilesystemStore, Index]) -> None:
    bounds = Bounds((await store[1].totals()).index + 9 * KIB, 0)
    evictor = Evictor(layout, store[1], store[0], bounds, wait_seconds=0.1)
    descriptor = os.open(layout.root / "evict.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    before = descriptors()
    assert not await evictor.make_room(KIB)
    assert await evictor.prune() is Obstacle.OTHER_PROCESS
    assert left(layout) == list(range(10))
    assert descriptors() == before
    os.close(descriptor)


async def test_rows_without_files_do_not_keep_it_busy(
    layout: Layout, store: tuple[FilesystemStore, Index], evictor: Callable[[int, int], Evictor]
) -> None:
    for number in range(5):
        layout.blob(Digest.of(body(number))).unlink()
    assert await evictor(10 * KIB, 0).make_room(5 * KIB)
    assert (await store[1].totals()).bytes == KIB * len(left(layout))


async def test_a_fresh_object_outlives_the_old_ones(
    layout: Layout, store: tuple[FilesystemStore, Index], evictor: Callable[[int, int], Evictor]
) -> None:
    digest = await put(store[0], b"new" * 100)
    assert await evictor(10 * KIB, 0).make_room(9 * KIB)
    assert layout.blob(digest).exists()
    assert await used(store[1], layout, digest) <= time.time()
