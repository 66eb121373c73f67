"""A proxy with a cache in front of scripted registries, and what tests of it share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.runtime.tuning import Tuning
from proxy.testbed.answer import BodyContent
from tests.fakes.client import WITHIN, Got, NodeClient, read_answer, read_head
from tests.fakes.matching import on
from tests.fakes.proxy import AT_ONCE, settings, started

BLOB = on("GET", "blob")
POLL = 0.01
HELD_BACK = 16 * 1024
"""Bytes at the end of a body that wait for the digest."""


@asynccontextmanager
async def cached(
    urls: Iterable[str],
    directory: Path,
    *,
    cache: Mapping[str, Any] | None = None,
    timeouts: Mapping[str, str] | None = None,
    tuning: Tuning = AT_ONCE,
    **more: Any,
) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy whose cache lies in a directory."""
    section = {"path": str(directory), "reserveFree": "1Mi", **(cache or {})}
    async with started(settings(urls, timeouts=timeouts, cache=section, **more), tuning) as proxy:
        yield proxy.node


def whole(content: BodyContent) -> bytes:
    """All bytes of some content."""
    return b"".join(content.pieces(0, content.size))


def way(got: Got) -> str | None:
    """How an answer was served."""
    return got.header("X-Cache")


def stored_file(directory: Path, digest: str) -> Path:
    """Where the bytes of a digest are kept."""
    [found] = (directory / "blobs").glob(f"*/*/{digest.partition(':')[2]}")
    return found


def unfinished(directory: Path) -> list[str]:
    """Files of downloads that have not ended."""
    return sorted(path.name for path in (directory / "ingest").iterdir())


def block_index(directory: Path) -> None:
    """Put a directory in the place of the index, which SQLite then cannot open."""
    (directory / "index.sqlite").unlink()
    (directory / "index.sqlite").mkdir()


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds that has no event of its own."""
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(POLL)


async def in_time(node: NodeClient, target: str, method: str = "GET") -> Got:
    """The first response that is not late: on a busy machine a short budget may end several requests."""
    async with asyncio.timeout(WITHIN):
        while (got := await node.send(method, target)).status == 504:
            pass
    return got


@asynccontextmanager
async def reading(
    node: NodeClient, target: str, size: int, *headers: tuple[str, str]
) -> AsyncIterator[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that has read so many bytes of a body and has not left yet."""
    async with asyncio.timeout(WITHIN), node.opened("GET", target, *headers) as (reader, writer):
        status, _, lines = await read_head(reader)
        assert status in {200, 206}, (status, lines)
        yield await reader.readexactly(size), reader, writer


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection ends, or until nothing more is due."""
    found = bytearray()
    try:
        while piece := await reader.read(1 << 16):
            found += piece
    except ConnectionError:
        pass
    return bytes(found)


def open_files(directory: Path) -> list[str]:
    """Files below a directory that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very listing
            found.append(str(link.readlink()))
    return [target for target in found if target.startswith(str(directory))]


def descriptors() -> int:
    """How many descriptors this process has open, that of the count included."""
    return len(list(Path("/proc/self/fd").iterdir()))


__all__ = [
    "BLOB",
    "HELD_BACK",
    "block_index",
    "cached",
    "descriptors",
    "eventually",
    "in_time",
    "open_files",
    "read_answer",
    "read_head",
    "reading",
    "rest_of",
    "stored_file",
    "unfinished",
    "way",
    "whole",
]
