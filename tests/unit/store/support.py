"""Stores for tests, and other processes that use them."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.eviction_order import EvictionPosition, EvictionStage
from proxy.store.filesystem import FilesystemStore
from proxy.store.format import open_directory
from proxy.store.index import DEFAULT_BOUNDS, DEFAULT_TIMES, Index
from proxy.store.index_file import IndexBounds, IndexTimes
from proxy.store.layout import Layout

PREPARED = """
import asyncio, os, signal, sys
from pathlib import Path
from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index
from proxy.store.layout import Layout, Link, LinkKind
from proxy.store.lease import Lease
from proxy.store.maintenance import sweep
layout = Layout(Path(sys.argv[1]))
"""


def made(directory: Path) -> Layout:
    """The layout of a store with its directories."""
    layout = Layout(directory / "store")
    open_directory(layout)
    return layout


async def used(index: Index, layout: Layout, digest: Digest) -> float:
    """When a digest was last used, in seconds since the epoch, as the index file has it."""
    await index.evictable(
        EvictionPosition(EvictionStage.END), 0
    )  # what is noted in memory is written before it answers
    with contextlib.closing(sqlite3.connect(layout.index)) as file:
        [(seconds,)] = file.execute("SELECT used FROM objects WHERE digest = ?", (str(digest),))
    return float(seconds)


async def order(index: Index, size: int = 1 << 40) -> list[tuple[Digest, int]]:
    """All that is stored, in the order in which it would be evicted, with sizes."""
    found: dict[Digest, int] = {}
    position = EvictionPosition()
    while position.stage is not EvictionStage.END:
        objects, position = await index.evictable(position, size)
        for item in objects:
            found.setdefault(item.digest, item.size)
    return list(found.items())


def unlink(layout: Layout, repository: str) -> None:
    """Take out of the index file what a repository holds."""
    with contextlib.closing(sqlite3.connect(layout.index)) as file, file:
        file.execute("DELETE FROM links WHERE repository = ?", (repository,))


@asynccontextmanager
async def opened(
    layout: Layout, bounds: IndexBounds = DEFAULT_BOUNDS, times: IndexTimes = DEFAULT_TIMES
) -> AsyncIterator[tuple[FilesystemStore, Index]]:
    index = Index(layout, bounds, times)
    await index.open()
    try:
        yield FilesystemStore(layout, index), index
    finally:
        await index.close()


async def put(store: FilesystemStore, data: bytes) -> Digest:
    digest = Digest.of(data)
    ingest = await store.begin(digest)
    assert ingest is not None
    await ingest.write(data)
    await ingest.commit()
    ingest.close()
    return digest


def put_file(layout: Layout, data: bytes, *, used: float | None = None) -> Digest:
    """A blob that the index does not know."""
    digest = Digest.of(data)
    path = layout.blob(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if used is not None:
        os.utime(path, (used, used))
    return digest


def replaced_at_first_read(patch: pytest.MonkeyPatch, path: Path, data: bytes) -> None:
    """When a file is read for the first time, another one has just taken its place: evicted, and stored again."""
    real, is_replaced = os.pread, threading.Event()

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if not is_replaced.is_set():
            is_replaced.set()
            path.unlink()
            path.write_bytes(data)
        return real(descriptor, length, offset)

    patch.setattr(os, "pread", pread)


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, its input and output connected."""
    command = [sys.executable, "-c", PREPARED + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(other: subprocess.Popen[str]) -> str:
    """The next line that another process prints."""
    assert other.stdout is not None
    return other.stdout.readline().strip()


def ended(other: subprocess.Popen[str]) -> int:
    """The exit status of another process, once it has ended."""
    with other:
        return other.wait(60)


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as short as can be


def modes(directory: Path) -> set[str]:
    """Kind and permissions of all below a directory."""
    return {oct(path.lstat().st_mode & 0o170777) for path in [directory, *directory.rglob("*")]}
