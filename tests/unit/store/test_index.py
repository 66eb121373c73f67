import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from proxy.oci.descriptor import OCI_MANIFEST
from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.index import Index, Totals
from proxy.store.index_file import IndexBounds, IndexFile, IndexTimes
from proxy.store.layout import Layout, Link, LinkKind
from proxy.transport.singleflight import Background
from tests.unit.store.support import descriptors, made, modes, opened, order, put, put_file, unlink, used

X = Link(Digest.of(b"x"), LinkKind.BLOB)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


async def test_it_is_for_its_owner_alone(layout: Layout) -> None:
    async with opened(layout) as (store, _):
        await put(store, b"blob")
        assert modes(layout.root) == {"0o40700", "0o100600"}


async def test_a_missing_index_is_built_from_the_files(layout: Layout) -> None:
    oldest = put_file(layout, b"the older one", used=1000)
    newest = put_file(layout, b"new", used=2000)
    async with opened(layout) as (_, index):
        assert await index.totals() == Totals(16, 2)
        assert await order(index) == [(oldest, 13), (newest, 3)]
        assert await used(index, layout, oldest) == 1000


async def test_links_come_back_from_the_manifests(layout: Layout) -> None:
    layer = Digest.of(b"layer")
    text = f'{{"schemaVersion": 2, "mediaType": "{OCI_MANIFEST}", "layers": [{{"digest": "{layer}"}}]}}'
    manifest = put_file(layout, text.encode())
    marks = layout.repository("key") / "manifests"
    marks.mkdir(parents=True)
    (marks.parent / "key.json").write_text('{"key": "key"}')
    (marks / str(manifest).replace(":", "-")).touch()
    async with opened(layout) as (_, index):
        assert await index.is_linked("key", Link(layer, LinkKind.BLOB))
        assert not await index.is_linked("key", Link(layer, LinkKind.MANIFEST))
        assert await index.is_linked("key", Link(manifest, LinkKind.MANIFEST))
        assert not await index.is_linked("key", Link(manifest, LinkKind.BLOB))
        assert not await index.is_linked("other", Link(layer, LinkKind.BLOB))


async def test_totals_are_exact(layout: Layout) -> None:
    async with opened(layout) as (store, index):
        one = await put(store, b"one")
        await put(store, b"one")
        two = await put(store, b"number two")
        assert await index.totals() == Totals(13, 2)
        await store.remove(one)
        await store.remove(one)
        assert await index.totals() == Totals(10, 1)
        await put(store, b"one")
        assert await index.totals() == Totals(13, 2)
        layout.blob(two).write_bytes(b"cut")  # damage of the disk
        await index.add(two)
        assert await index.totals() == Totals(6, 2)


async def test_a_row_goes_only_with_its_file(layout: Layout) -> None:
    """Somebody may have stored it again between the removal of its file and that of its row."""
    async with opened(layout) as (store, index):
        digest = await put(store, b"blob")
        await index.remove([digest])
        assert await index.totals() == Totals(4, 1)
        layout.blob(digest).unlink()
        await index.add(digest)
        assert await index.totals() == Totals(0, 0)


async def test_a_file_that_the_index_missed_comes_in_by_use(layout: Layout) -> None:
    async with opened(layout) as (store, index):
        await index.tidied()
        digest = put_file(layout, b"blob")
        assert await index.totals() == Totals(0, 0)
        content = await store.find(digest)
        assert content is not None
        content.close()
        assert await order(index) == [(digest, 4)]
        assert await index.totals() == Totals(4, 1)


async def test_what_a_crash_left_is_found_at_the_next_start(layout: Layout) -> None:
    async with opened(layout) as (store, index):
        missing = await put(store, b"gone")
    kept = put_file(layout, b"renamed, then killed", used=1000)
    layout.blob(missing).unlink()
    async with opened(layout) as (_, index):
        await index.tidied()
        assert await order(index) == [(kept, 20)]
        assert await index.totals() == Totals(20, 1)


async def test_use_makes_young(layout: Layout) -> None:
    first, second = put_file(layout, b"1", used=1000), put_file(layout, b"2", used=2000)
    async with opened(layout) as (_, index):
        index.touch(first)
        assert [digest for digest, _ in await order(index)] == [second, first]


@pytest.mark.parametrize("later", ["used", "stored"])
async def test_what_was_used_while_the_clock_was_ahead_does_not_outlive_what_came_later(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    real = time.time
    old, ahead, new = (put_file(layout, body, used=1000) for body in (b"old", b"ahead", b"new"))
    async with opened(layout) as (_, index):
        await index.tidied()
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + 86400)
            index.touch(ahead)
            assert [digest for digest, _ in await order(index)][-1] == ahead
        if later == "used":
            index.touch(new)
        else:
            await index.add(new)
        assert [digest for digest, _ in await order(index)] == [old, ahead, new]
        assert await used(index, layout, ahead) <= real()


async def test_a_time_of_use_that_waits_while_the_clock_is_put_right_is_not_to_come(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    digest = put_file(layout, b"1", used=1000)
    async with opened(layout) as (_, index):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + 86400)
            index.touch(digest)
        assert 1000 < await used(index, layout, digest) <= real()


async def test_a_file_from_a_time_to_come_is_not_the_last_to_go(layout: Layout) -> None:
    ahead = put_file(layout, b"ahead", used=time.time() + 86400)
    new = put_file(layout, b"new", used=1000)
    async with opened(layout) as (_, index):
        await index.tidied()
        index.touch(new)
        assert [digest for digest, _ in await order(index)] == [ahead, new]


class CountingThread(ThreadPoolExecutor):
    """The thread of an index, and how often it was given work."""

    def __init__(self) -> None:
        super().__init__(1)
        self.submitted = 0

    def submit(self, *arguments: Any, **keywords: Any) -> Any:
        self.submitted += 1
        return super().submit(*arguments, **keywords)


@pytest.mark.parametrize(("interval", "writes"), [(3600.0, 0), (-1.0, 100)])
async def test_uses_are_written_all_at_once(layout: Layout, interval: float, writes: int) -> None:
    digest = put_file(layout, b"1", used=1000)
    thread = CountingThread()
    index = Index(layout, times=IndexTimes(touch=interval), thread=thread)
    await index.open()
    await index.tidied()
    before = thread.submitted
    for _ in range(100):
        index.touch(digest)
    assert thread.submitted - before == writes
    assert await used(index, layout, digest) > 1000
    await index.close()


async def test_uses_are_written_at_the_end(layout: Layout) -> None:
    digest = put_file(layout, b"1", used=1000)
    async with opened(layout) as (_, index):
        index.touch(digest)
    async with opened(layout) as (_, index):
        assert await used(index, layout, digest) > 1000


async def test_a_closed_index_says_so(layout: Layout) -> None:
    async with opened(layout, times=IndexTimes(touch=-1.0)) as (_, index):
        pass
    with pytest.raises(StoreError, match="it is closed"):
        await index.totals()
    index.touch(Digest.of(b"x"))  # of a request that ends late
    await index.tidied()


async def test_a_step_of_tidying_that_comes_behind_the_end_opens_nothing(layout: Layout) -> None:
    loop, before = asyncio.get_running_loop(), descriptors()
    closing, background, ending = threading.Event(), Background(), list[asyncio.Task[None]]()

    def end() -> None:
        ending.append(background.start(index.close()))
        loop.call_soon(closing.set)  # once `close` has submitted its own work

    class LateThread(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **keywords: Any) -> Any:
            if threading.current_thread() is not threading.main_thread() and not closing.is_set():
                loop.call_soon_threadsafe(end)
                assert closing.wait(10)
            return super().submit(*arguments, **keywords)

    thread = LateThread(1)
    index = Index(layout, thread=thread)
    await index.open()
    assert await asyncio.to_thread(closing.wait, 10)
    await ending[0]
    await asyncio.to_thread(thread.shutdown)
    assert descriptors() == before, "the index was opened again after its end"


async def test_a_row_that_is_no_digest_goes(layout: Layout) -> None:
    digest = put_file(layout, b"1")
    async with opened(layout) as (_, index):
        await index.tidied()
        with sqlite3.connect(layout.index) as connection:
            connection.execute("INSERT INTO objects (digest, size, used) VALUES ('nonsense', 5, 0)")
        connection.close()
        assert await order(index) == [(digest, 1)]
        assert await index.totals() == Totals(1, 1)


async def test_links_are_bounded(layout: Layout) -> None:
    links = [Link(Digest.of(str(number).encode()), LinkKind.BLOB) for number in range(30)]
    async with opened(layout, IndexBounds(links=10)) as (_, index):
        for link in links:
            await index.link("key", [link])
        assert [await index.is_linked("key", link) for link in links] == [False] * 20 + [True] * 10
        await asyncio.to_thread(unlink, layout, "key")
        assert not await index.is_linked("key", links[-1])


class ListedLayout(Layout):
    """A layout that reports when its blobs are listed."""

    listed: ClassVar[list[str]] = []

    def entries_in(self, algorithm: str, prefix: str) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
        self.listed.append(f"{algorithm}/{prefix}")
        return super().entries_in(algorithm, prefix)


def test_an_index_is_opened_without_listing_the_files(layout: Layout) -> None:
    listed = ListedLayout(layout.root)
    IndexFile(listed, IndexBounds(), 10.0).close()
    assert len(listed.listed) == 2 * 256  # it was built
    listed.listed.clear()
    IndexFile(listed, IndexBounds(), 10.0).close()
    assert listed.listed == []
