import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.oci.descriptor import OCI_MANIFEST
from proxy.oci.reference import Digest
from proxy.store import index as store_index
from proxy.store import index_file
from proxy.store.blobs import StoreError
from proxy.store.eviction_order import STEP, Position, Stage
from proxy.store.index import Index, Totals
from proxy.store.layout import Layout, Link, LinkKind
from proxy.transport.singleflight import Background
from tests.unit.store.support import descriptors, made, modes, opened, order, put, put_file, unlink, used

X = Link(Digest.of(b"x"), LinkKind.BLOB)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


async def totals_of(layout: Layout) -> Totals:
    async with opened(layout) as (_, index):
        return await index.totals()


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


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _other_schema(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE totals")
    connection.close()


def _other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _interrupted(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE objects (digest TEXT PRIMARY KEY)")
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _truncated, _empty, _other_schema, _other_version, _interrupted])
async def test_an_index_that_cannot_be_used_is_built_anew(layout: Layout, damage: Callable[[Path], None]) -> None:
    before = descriptors()
    for number in range(200):
        put_file(layout, f"blob {number:03}".encode())
    assert await totals_of(layout) == Totals(1600, 200)
    await asyncio.to_thread(damage, layout.index)
    assert await totals_of(layout) == Totals(1600, 200)
    assert await totals_of(layout) == Totals(1600, 200)
    assert descriptors() == before


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


async def test_damage_is_mended_while_it_runs(layout: Layout) -> None:
    async with opened(layout) as (store, index):
        await index.tidied()
        await put(store, b"blob")
        file = index._file
        assert file is not None
        await asyncio.get_running_loop().run_in_executor(index._thread, _drop_tables, file.connection)
        assert await index.totals() == Totals(4, 1)
        await put(store, b"another")
        assert await index.totals() == Totals(11, 2)


def _drop_tables(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE totals")


async def test_two_who_have_it_open_agree_on_a_new_one(layout: Layout) -> None:
    async with opened(layout) as (store, one), opened(layout) as (_, other):
        await put(store, b"blob")
        for index in (one, other):
            await index.tidied()
        assert one._file is not None
        await asyncio.get_running_loop().run_in_executor(one._thread, _drop_tables, one._file.connection)
        async with asyncio.TaskGroup() as tasks:
            found = [tasks.create_task(index.totals()) for index in (one, other)]
        assert [task.result() for task in found] == [Totals(4, 1)] * 2
        await one.link("key", [X])
        assert await other.is_linked("key", X)


async def test_a_deleted_index_is_built_anew_while_it_runs(layout: Layout) -> None:
    async with opened(layout) as (store, index):
        await put(store, b"blob")
        await asyncio.to_thread(layout.index.unlink)
        assert await index.totals() == Totals(4, 1)
        assert layout.index.exists()


async def test_a_disk_in_trouble_does_not_cost_the_index(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(layout) as (_, index):
        await index.link("key", [X])
    before = layout.index.lstat().st_ino

    def full(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    index = Index(layout)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", full)
        with pytest.raises(StoreError, match="cannot be used: database or disk is full") as caught:
            await index.open()
        assert caught.value.reason == "enospc"
    with pytest.raises(StoreError, match="a moment ago"):
        await index.totals()
    monkeypatch.setattr(store_index, "RETRY_SECONDS", 0.0)
    assert await index.is_linked("key", X)  # by itself
    assert layout.index.lstat().st_ino == before
    await index.close()


async def test_a_locked_index_is_not_replaced(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "BUSY_SECONDS", 0.05)
    async with opened(layout) as (_, index):
        await index.tidied()
        other = sqlite3.connect(layout.index, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await index.link("key", [X])
        other.execute("COMMIT")
        other.close()
        await index.link("key", [X])
        assert await index.is_linked("key", X)


async def test_a_commit_that_fails_leaves_no_open_transaction(layout: Layout) -> None:
    async with opened(layout) as (_, index):
        await index.tidied()

        def fail() -> None:
            with index._transaction():
                raise sqlite3.OperationalError("disk I/O error")

        with pytest.raises(StoreError):
            await index._run(fail)
        await index.link("key", [X])
        assert await index.is_linked("key", X)


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
        gone = await put(store, b"gone")
    kept = put_file(layout, b"renamed, then killed", used=1000)
    layout.blob(gone).unlink()
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
        assert await used(index, layout, digest) <= real()


async def test_a_file_from_a_time_to_come_is_not_the_last_to_go(layout: Layout) -> None:
    ahead = put_file(layout, b"ahead", used=time.time() + 86400)
    new = put_file(layout, b"new", used=1000)
    async with opened(layout) as (_, index):
        await index.tidied()
        index.touch(new)
        assert [digest for digest, _ in await order(index)] == [ahead, new]


async def test_uses_are_written_all_at_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put_file(layout, b"1", used=1000)
    written = threading.Event()
    async with opened(layout) as (_, index):
        await index.tidied()
        note, rows = index._note, []

        def seen(used: dict[Digest, float]) -> None:
            rows.append(len(used))
            note(used)
            written.set()

        monkeypatch.setattr(index, "_note", seen)
        for _ in range(100):
            index.touch(digest)
        assert rows == []
        monkeypatch.setattr(store_index, "TOUCH_SECONDS", -1.0)
        index.touch(digest)
        assert await asyncio.to_thread(written.wait, 10)
        assert rows == [1]


async def test_uses_are_written_at_the_end(layout: Layout) -> None:
    digest = put_file(layout, b"1", used=1000)
    async with opened(layout) as (_, index):
        index.touch(digest)
    async with opened(layout) as (_, index):
        assert await used(index, layout, digest) > 1000


async def test_a_closed_index_says_so(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(layout) as (_, index):
        pass
    with pytest.raises(StoreError, match="it is closed"):
        await index.totals()
    monkeypatch.setattr(store_index, "TOUCH_SECONDS", -1.0)
    index.touch(Digest.of(b"x"))  # of a request that ends late
    await index.tidied()


async def test_a_step_of_tidying_that_comes_behind_the_end_opens_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, before = asyncio.get_running_loop(), descriptors()
    index = Index(layout)
    submit, closing = index._thread.submit, threading.Event()
    background, ending = Background(), list[asyncio.Task[None]]()

    def end() -> None:
        ending.append(background.start(index.close()))
        loop.call_soon(closing.set)  # once `close` has submitted its own work

    def late(work: Callable[..., object], *arguments: object) -> object:
        if threading.current_thread() is not threading.main_thread() and not closing.is_set():
            loop.call_soon_threadsafe(end)
            assert closing.wait(10)
        return submit(work, *arguments)

    monkeypatch.setattr(index._thread, "submit", late)
    await index.open()
    assert await asyncio.to_thread(closing.wait, 10)
    await ending[0]
    await asyncio.to_thread(index._thread.shutdown)
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


async def test_links_are_bounded(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_index, "LINKS_LIMIT", 10)
    links = [Link(Digest.of(str(number).encode()), LinkKind.BLOB) for number in range(30)]
    async with opened(layout) as (_, index):
        for link in links:
            await index.link("key", [link])
        assert [await index.is_linked("key", link) for link in links] == [False] * 20 + [True] * 10
        await asyncio.to_thread(unlink, layout, "key")
        assert not await index.is_linked("key", links[-1])


async def test_a_large_index_is_opened_without_looking_at_the_files(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(layout) as (_, index):
        await index.tidied()
    connection = sqlite3.connect(layout.index, isolation_level=None)
    # Python before 3.13 begins no transaction by itself in a Turkish locale, whose small I is no i.
    connection.execute("BEGIN")
    rows = ((str(Digest.of(str(number).encode())), 10, float(number)) for number in range(100_000))
    connection.executemany("INSERT INTO objects (digest, size, used) VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()
    looked: list[str] = []
    monkeypatch.setattr(Layout, "entries_in", lambda *_: looked.append("files"))
    monkeypatch.setattr(store_index, "tidy", lambda *_, **__: iter(()))
    async with opened(layout) as (_, index):
        assert await index.totals() == Totals(1_000_000, 100_000)
        objects, _ = await index.evictable(Position(Stage.IMAGES), 0)
        assert len(objects) == STEP
    assert looked == []
