import asyncio
import errno
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.files import PIECES_LIMIT
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Totals
from proxy.store.index_file import IndexTimes
from proxy.store.layout import Layout
from proxy.store.maintenance import sweep
from tests.cache.serving import eventually
from tests.unit.store.support import descriptors, made, modes, opened, order, put

DATA = b"bytes of a layer" * 1000
DIGEST = Digest.of(DATA)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


@pytest.fixture
async def store(layout: Layout) -> AsyncIterator[FilesystemStore]:
    async with opened(layout) as (store, index):
        await index.tidied()
        yield store


async def test_a_commit_is_durable_before_it_has_a_name(
    store: FilesystemStore, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def seen_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(layout.root)
        calls.append(f"fsync {path}")
        fsync(descriptor)

    def seen_rename(self: Path, target: Path) -> Path:
        calls.append(f"rename {self.relative_to(layout.root)} {target.relative_to(layout.root)}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "rename", seen_rename)
    await put(store, DATA)
    part, directory = f"ingest/sha256-{DIGEST.hex}.part", f"blobs/sha256/{DIGEST.hex[:2]}"
    assert calls == [
        f"fsync {part}",
        "fsync blobs/sha256",
        f"rename {part} {directory}/{DIGEST.hex}",
        f"fsync {directory}",
    ]


@pytest.mark.security
async def test_only_the_owner_may_read(store: FilesystemStore, layout: Layout) -> None:
    await put(store, DATA)
    ingest = await store.begin(Digest.of(b"x"))
    assert ingest is not None
    assert modes(layout.root) == {"0o40700", "0o100600"}
    await ingest.abort()
    ingest.close()


async def test_nothing_is_left_open_or_behind(store: FilesystemStore, layout: Layout) -> None:
    before = descriptors()
    await put(store, DATA)
    for _ in range(3):
        ingest = await store.begin(Digest.of(b"x"))
        assert ingest is not None
        arriving = await store.arriving(Digest.of(b"x"))
        assert arriving is not None
        assert await store.begin(Digest.of(b"x")) is None
        await ingest.abort()
        for content in (ingest, arriving, await store.find(DIGEST)):
            assert content is not None
            content.close()
    assert await store.find(Digest.of(b"x")) is None
    assert await store.arriving(Digest.of(b"x")) is None
    assert descriptors() == before
    assert list(layout.ingest.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
@pytest.mark.security
async def test_only_a_file_is_a_blob(store: FilesystemStore, layout: Layout, tmp_path: Path, kind: str) -> None:
    before = descriptors()
    path = layout.blob(DIGEST)
    path.parent.mkdir()
    (tmp_path / "secret").write_bytes(DATA)
    if kind == "link":
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert await store.find(DIGEST) is None
    assert [found async for found in store.list()] == []
    if kind != "directory":  # what is stored then takes its place
        await put(store, DATA)
        assert stat.S_ISREG(path.lstat().st_mode)
    assert (tmp_path / "secret").read_bytes() == DATA
    assert descriptors() == before


@pytest.mark.security
async def test_a_part_file_that_is_a_link_is_not_followed(
    store: FilesystemStore, layout: Layout, tmp_path: Path
) -> None:
    before = descriptors()
    (tmp_path / "secret").write_bytes(b"secret")
    layout.part(DIGEST).symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="symbolic link"):
        await store.begin(DIGEST)
    assert await store.arriving(DIGEST) is None
    assert await asyncio.to_thread(sweep, layout) == 1
    await put(store, DATA)
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert descriptors() == before


REASONS = {
    errno.ENOSPC: "enospc",
    errno.EDQUOT: "edquot",
    errno.EIO: "eio",
    errno.EROFS: "erofs",
    errno.EMFILE: "emfile",
    errno.ENFILE: "emfile",
    errno.EACCES: "other",
}


@pytest.mark.parametrize("code", REASONS)
@pytest.mark.parametrize("call", ["pwritev", "fsync", "rename", "open", "pread"])
async def test_trouble_of_the_disk_has_a_reason_and_passes(
    store: FilesystemStore, layout: Layout, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    before = descriptors()

    def trouble(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    async def use() -> None:
        ingest = await store.begin(DIGEST)
        assert ingest is not None
        try:
            await ingest.write(DATA)
            await ingest.read(0, 1)
            await ingest.commit()
        except StoreError:
            await ingest.abort()
            raise
        finally:
            ingest.close()

    with monkeypatch.context() as patched:
        patched.setattr(Path if call == "rename" else os, call, trouble)
        with pytest.raises(StoreError, match="the cache: ") as caught:
            await use()
    assert caught.value.reason == REASONS[code]
    assert os.strerror(code) in str(caught.value)
    assert list(layout.ingest.iterdir()) == []
    assert descriptors() == before
    await use()
    assert (await store.find(DIGEST)) is not None


async def test_a_disk_that_does_not_even_delete_frees_the_digest(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.write(b"wrong")

    def refused(_: Path, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        await ingest.abort()
    ingest.close()
    assert descriptors() == before
    again = await store.begin(DIGEST)
    assert again is not None
    assert await again.read(0, 10) == b"wrong"  # to be hashed again, and found out
    await again.abort()
    again.close()


async def test_a_short_write_is_continued(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda to, pieces, offset: os.pwrite(to, b"".join(pieces)[:7], offset))
    pieces = [b"more", b" than ", b"", b"seven", b" bytes"]
    digest = Digest.of(b"".join(pieces))
    ingest = await store.begin(digest)
    assert ingest is not None
    await ingest.write(*pieces)
    await ingest.commit()
    ingest.close()
    content = await store.find(digest)
    assert content is not None
    assert await content.read(0, 100) == b"more than seven bytes"
    content.close()


async def test_more_pieces_than_one_call_takes_are_all_written(store: FilesystemStore) -> None:
    pieces = [bytes([number % 256]) * (number % 5) for number in range(3 * PIECES_LIMIT + 1)]
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.write(*pieces)
    assert ingest.size == sum(map(len, pieces))
    assert await ingest.read(0, ingest.size) == b"".join(pieces)
    await ingest.abort()
    ingest.close()


async def test_a_cancelled_write_never_reaches_another_file(
    store: FilesystemStore, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    pwritev = os.pwritev

    def slow(descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
        begun.set()
        may_go_on.wait(10)
        return pwritev(descriptor, pieces, offset)

    ingest = await store.begin(DIGEST)
    assert ingest is not None
    number = ingest.descriptor
    monkeypatch.setattr(os, "pwritev", slow)

    async def write() -> None:
        try:
            await ingest.write(DATA)
        finally:
            ingest.close()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(write())
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(2):  # a second time as well
            task.cancel()
            await asyncio.wait([task], timeout=0.01)
            assert ingest.descriptor == number
        may_go_on.set()
    assert task.cancelled()
    assert layout.part(DIGEST).read_bytes() == DATA  # all was written before the descriptor was free for others
    await ingest.abort()


@pytest.mark.parametrize("call", ["find", "begin", "arriving"])
async def test_a_cancelled_call_leaves_nothing_open(
    store: FilesystemStore, layout: Layout, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await put(store, DATA)
    digest = DIGEST if call == "find" else Digest.of(b"x")
    holder = await store.begin(digest) if call == "arriving" else None
    before = descriptors()
    begun, may_go_on, has_opened = threading.Event(), threading.Event(), threading.Event()
    real = os.open

    def slow(path: str | Path, *arguments: int, **keywords: Any) -> int:
        if begun.is_set() or not Path(path).is_relative_to(layout.root):
            return real(path, *arguments, **keywords)
        begun.set()
        may_go_on.wait(10)
        descriptor = real(path, *arguments, **keywords)
        has_opened.set()
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(getattr(store, call)(digest))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        may_go_on.set()
    assert task.cancelled()
    assert await asyncio.to_thread(has_opened.wait, 10)  # the thread goes on after the task was cancelled
    await eventually(lambda: descriptors() == before)
    if holder is not None:
        await holder.abort()
        holder.close()
    ingest = await store.begin(digest)  # nobody has it
    assert ingest is not None
    await ingest.abort()
    ingest.close()
    assert list(layout.ingest.iterdir()) == []


async def test_a_writer_whose_part_was_taken_away_commits_nothing(store: FilesystemStore, layout: Layout) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.write(DATA)
    layout.part(DIGEST).unlink()
    layout.part(DIGEST).write_bytes(b"of somebody else, half a blob")
    with pytest.raises(StoreError, match="another process removed the part file"):
        await ingest.commit()
    assert await store.find(DIGEST) is None
    await ingest.abort()
    ingest.close()


async def test_a_directory_that_was_emptied_is_made_again(layout: Layout) -> None:
    async with opened(layout) as (store, index):
        await index.tidied()
        shutil.rmtree(layout.root)
        layout.root.mkdir()
        await put(store, DATA)
        content = await store.find(DIGEST)
        assert content is not None
        content.close()
        assert (await index.totals()).objects == 1


async def test_what_is_committed_counts_even_while_the_index_is_locked(layout: Layout) -> None:
    async with opened(layout, times=IndexTimes(busy=0.05)) as (store, index):
        await index.tidied()
        other = sqlite3.connect(layout.index, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await put(store, DATA)
        assert await index.totals() == Totals(0, 0)
        other.execute("COMMIT")
        other.close()
        content = await store.find(DIGEST)
        assert content is not None
        content.close()
        assert [digest for digest, _ in await order(index)] == [DIGEST]
