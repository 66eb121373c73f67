"""The index of a damaged, deleted or locked file, and of a failing disk."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.index import Index, Totals
from proxy.store.index_file import IndexTimes
from proxy.store.layout import Layout, Link, LinkKind
from tests.fakes.client import WITHIN
from tests.unit.store.support import descriptors, made, opened, put, put_file

X = Link(Digest.of(b"x"), LinkKind.BLOB)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


async def totals_of(layout: Layout) -> Totals:
    async with opened(layout) as (_, index):
        return await index.totals()


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


async def test_damage_is_repaired_while_it_runs(layout: Layout) -> None:
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


def full_disk(*_: object, **__: object) -> sqlite3.Connection:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


@pytest.mark.parametrize("retry", [0.0, WITHIN])
async def test_a_disk_in_trouble_does_not_cost_the_index(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, retry: float
) -> None:
    async with opened(layout) as (_, index):
        await index.link("key", [X])
    before = layout.index.lstat().st_ino
    index = Index(layout, times=IndexTimes(retry=retry))
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", full_disk)
        with pytest.raises(StoreError, match="database or disk is full") as caught:
            await index.open()
    assert caught.value.reason == "enospc"
    if retry:
        with pytest.raises(StoreError, match="a moment ago"):
            await index.totals()
    else:
        assert await index.is_linked("key", X)  # by itself
    assert layout.index.lstat().st_ino == before
    await index.close()


async def test_a_locked_index_is_not_replaced(layout: Layout) -> None:
    async with opened(layout, times=IndexTimes(busy=0.05)) as (_, index):
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
