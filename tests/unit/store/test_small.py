import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.disk import LATE_LIMIT, LOOKUP_THREADS, TimedThreads
from proxy.store.layout import Layout
from proxy.store.small import AT_ONCE, SMALL_CONTENT, TURNS_LIMIT, SmallReader
from tests.fakes.client import WITHIN
from tests.unit.store.support import made

DATA = [f"content {number}".encode() for number in range(AT_ONCE + 3)]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


class RefusingThreads(ThreadPoolExecutor):
    """Threads that the system may refuse to start."""

    is_refused = False

    def submit(self, *arguments: Any, **keywords: Any) -> Any:
        if self.is_refused:
            raise RuntimeError("can't start new thread")
        return super().submit(*arguments, **keywords)


@pytest.fixture
def threads() -> Iterator[RefusingThreads]:
    threads = RefusingThreads(LOOKUP_THREADS)
    yield threads
    threads.shutdown()


@pytest.fixture
def reader(layout: Layout, threads: RefusingThreads) -> SmallReader:
    return SmallReader(layout, TimedThreads(threads, LATE_LIMIT, WITHIN))


@pytest.fixture
def impatient(layout: Layout, threads: RefusingThreads) -> SmallReader:
    """A reader that waits for the disk 0.2 s, not 2 s."""
    return SmallReader(layout, TimedThreads(threads, LATE_LIMIT, 0.2))


def stored(layout: Layout, data: bytes) -> Digest:
    path = layout.blob(Digest.of(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Digest.of(data)


class SlowDisk:
    """Holds every read until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self.reading = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self._pread: Callable[[int, int, int], bytes] = os.pread
        monkeypatch.setattr(os, "pread", self._slow)

    def _slow(self, descriptor: int, length: int, offset: int) -> bytes:
        self.reads += 1
        self.reading.release()
        self.may_go_on.wait(10)
        return self._pread(descriptor, length, offset)

    async def is_reading(self) -> None:
        assert await asyncio.to_thread(self.reading.acquire, timeout=10)


@pytest.mark.parametrize("size", [0, 1, SMALL_CONTENT])
async def test_small_content_is_read_whole(reader: SmallReader, layout: Layout, size: int) -> None:
    data = os.urandom(size)
    assert await reader.read(stored(layout, data)) == data


async def test_what_is_missing_large_or_no_file_is_none(reader: SmallReader, layout: Layout) -> None:
    link = Digest.of(b"link")
    layout.blob(link).parent.mkdir(parents=True)
    layout.blob(link).symlink_to("/etc/hostname")
    large = stored(layout, bytes(SMALL_CONTENT + 1))
    assert [await reader.read(digest) for digest in (Digest.of(b"none"), large)] == [None, None]
    assert await reader.read(link) is None


async def test_each_gets_its_own_however_many_ask_at_once(reader: SmallReader, layout: Layout) -> None:
    digests = [stored(layout, data) for data in DATA]
    assert await asyncio.gather(*(reader.read(digest) for digest in digests * 3)) == DATA * 3


async def test_trouble_with_one_file_is_nobody_elses(
    reader: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = stored(layout, DATA[0]), stored(layout, DATA[1])
    pread = os.pread

    def broken(descriptor: int, length: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == bad.hex:
            raise OSError(5, "bad place")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", broken)
    found = await asyncio.gather(reader.read(good), reader.read(bad), return_exceptions=True)
    assert found[0] == DATA[0]
    assert isinstance(found[1], OSError)


async def test_what_is_requested_while_others_are_read_is_looked_at_anew(
    reader: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, disk = stored(layout, DATA[0]), SlowDisk(monkeypatch)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(reader.read(digest))
        await disk.is_reading()
        layout.blob(digest).unlink()
        second = tasks.create_task(reader.read(digest))
        disk.may_go_on.set()
    assert (first.result(), second.result()) == (DATA[0], None)


async def test_who_leaves_takes_nothing_from_others(
    reader: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, disk = stored(layout, DATA[0]), SlowDisk(monkeypatch)
    async with asyncio.TaskGroup() as tasks:
        leaving, staying = (tasks.create_task(reader.read(digest)) for _ in range(2))
        await disk.is_reading()
        leaving.cancel()
        disk.may_go_on.set()
    assert leaving.cancelled()
    assert staying.result() == DATA[0]
    assert disk.reads == 1  # for both


async def test_a_slow_disk_gets_more_threads_and_not_any_number(
    layout: Layout, threads: RefusingThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, disk = [stored(layout, data) for data in DATA[: TURNS_LIMIT + 2]], SlowDisk(monkeypatch)
    reader = SmallReader(layout, TimedThreads(threads, LATE_LIMIT, WITHIN), slow_seconds=-1.0)
    async with asyncio.TaskGroup() as tasks:
        read_tasks = []
        for number, digest in enumerate(digests):
            read_tasks.append(tasks.create_task(reader.read(digest)))
            if number < TURNS_LIMIT:
                await disk.is_reading()
        assert disk.reads == TURNS_LIMIT
        disk.may_go_on.set()
    assert [task.result() for task in read_tasks] == DATA[: TURNS_LIMIT + 2]


async def test_who_asks_just_behind_a_read_that_hangs_is_served(
    reader: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, other = stored(layout, DATA[0]), stored(layout, DATA[1])
    pread, reading, may_go_on = os.pread, threading.Event(), threading.Event()

    def slow(descriptor: int, length: int, offset: int) -> bytes:
        data = pread(descriptor, length, offset)
        if data == DATA[0]:
            reading.set()
            may_go_on.wait(10)
        return data

    monkeypatch.setattr(os, "pread", slow)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(reader.read(hanging))
        assert await asyncio.to_thread(reading.wait, 10)
        assert await reader.read(other) == DATA[1]
        assert not first.done()
        may_go_on.set()
    assert first.result() == DATA[0]


async def test_without_a_thread_everybody_gets_an_error_and_later_ones_are_served(
    reader: SmallReader, layout: Layout, threads: RefusingThreads
) -> None:
    digests = [stored(layout, data) for data in DATA]
    threads.is_refused = True
    found = await asyncio.gather(*(reader.read(digest) for digest in digests * 5), return_exceptions=True)
    threads.is_refused = False
    assert {getattr(error, "errno", None) for error in found} == {errno.EAGAIN}
    assert await asyncio.gather(*(reader.read(digest) for digest in digests)) == DATA


async def test_a_disk_that_hangs_is_not_waited_for(
    impatient: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = stored(layout, b"small")
    disk = SlowDisk(monkeypatch)
    for _ in range(TURNS_LIMIT + 2):
        with pytest.raises(StoreError) as caught:
            await asyncio.wait_for(impatient.read(digest), 10)
        assert caught.value.reason == "timeout"
    assert disk.reads == 1  # one thread hangs, however many want the file
    monkeypatch.undo()
    disk.may_go_on.set()
    await served(impatient, digest, b"small")


async def served(reader: SmallReader, digest: Digest, content: bytes) -> None:
    """Wait until it is, as the disk answers again."""
    async with asyncio.timeout(WITHIN):
        while True:
            with contextlib.suppress(StoreError):
                assert await reader.read(digest) == content
                return
            await asyncio.sleep(0)


class OneHangs:
    """A disk on which the files with some contents hang until they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *contents: bytes) -> None:
        self.may_go_on = threading.Event()
        self.hanging = 0
        self._contents = contents
        self._pread: Callable[[int, int, int], bytes] = os.pread
        monkeypatch.setattr(os, "pread", self._read)

    def _read(self, descriptor: int, length: int, offset: int) -> bytes:
        data = self._pread(descriptor, length, offset)
        if data in self._contents:
            self.hanging += 1
            self.may_go_on.wait(WITHIN)
        return data


@pytest.mark.parametrize("asking", [1, 2, 50])
async def test_one_file_that_hangs_holds_up_no_other(
    impatient: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch, asking: int
) -> None:
    hanging, *others = (stored(layout, data) for data in DATA)
    disk = OneHangs(monkeypatch, DATA[0])
    found = await asyncio.gather(*(impatient.read(hanging) for _ in range(asking)), return_exceptions=True)
    assert {type(error) for error in found} == {StoreError}
    for _ in range(3):
        with pytest.raises(StoreError):
            await impatient.read(hanging)
        assert await asyncio.gather(*map(impatient.read, others)) == DATA[1:]
    assert disk.hanging == 1
    disk.may_go_on.set()
    await served(impatient, hanging, DATA[0])


async def test_where_many_hang_no_other_is_tried(
    impatient: SmallReader, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [stored(layout, data) for data in DATA]
    disk = OneHangs(monkeypatch, *DATA[1:])
    for digest in digests[1 : LATE_LIMIT + 1]:
        assert await impatient.read(digests[0]) == DATA[0]
        with pytest.raises(StoreError):
            await impatient.read(digest)
    for digest in digests:
        with pytest.raises(StoreError):
            await impatient.read(digest)
    assert disk.hanging == LATE_LIMIT
    disk.may_go_on.set()
    for digest, content in zip(digests, DATA, strict=True):
        await served(impatient, digest, content)
