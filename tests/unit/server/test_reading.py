"""What is read is the same, whether the system has it in memory or a thread has to fetch it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.server.reading import SpanReader
from proxy.store.blobs import StoreError
from proxy.store.file_content import FileContent
from proxy.store.memory import MemoryContent

BYTES = bytes(range(256)) * 64
OFFSET = 1000


@pytest.fixture
def content(tmp_path: Path) -> Iterator[FileContent]:
    path = tmp_path / "content"
    path.write_bytes(BYTES)
    opened = FileContent(os.open(path, os.O_RDONLY))
    yield opened
    opened.close()


def refuse(patch: pytest.MonkeyPatch, call: str, code: int) -> list[int]:
    """Have a system call fail; a list that grows with each attempt."""
    asked: list[int] = []

    def fail(*_: object) -> int:
        asked.append(code)
        raise OSError(code, os.strerror(code))

    patch.setattr(os, call, fail)
    return asked


async def test_what_is_in_memory_is_read_without_a_thread(
    content: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads = refuse(monkeypatch, "pread", errno.EIO)
    assert await SpanReader().read(content, OFFSET, 5000) == BYTES[OFFSET : OFFSET + 5000]
    assert not in_threads


async def test_what_is_read_later_changes_nothing_of_what_was_read(content: FileContent) -> None:
    reader = SpanReader()
    first, second = await reader.read(content, 0, 256), await reader.read(content, 1, 256)
    assert (first, second) == (BYTES[:256], BYTES[1:257])


async def test_at_the_end_there_is_less_and_behind_it_nothing(content: FileContent) -> None:
    reader = SpanReader()
    assert await reader.read(content, len(BYTES) - 10, 4096) == BYTES[-10:]
    assert not await reader.read(content, len(BYTES), 4096)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
async def test_what_is_not_in_memory_is_read_by_a_thread(
    content: FileContent, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse(monkeypatch, "preadv", code)
    reader = SpanReader()
    for _ in range(2):
        assert await reader.read(content, OFFSET, 5000) == BYTES[OFFSET : OFFSET + 5000]


async def test_a_file_system_that_cannot_tell_is_asked_once(
    content: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, asked = SpanReader(), refuse(monkeypatch, "preadv", errno.EOPNOTSUPP)
    for _ in range(3):
        await reader.read(content, 0, 10)
    assert len(asked) == 1


async def test_a_broken_disk_is_told_as_such(content: FileContent, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "preadv", errno.EIO)
    refuse(monkeypatch, "pread", errno.EIO)
    with pytest.raises(StoreError) as caught:
        await SpanReader().read(content, 0, 10)
    assert caught.value.reason == "eio"


async def test_a_file_that_is_closed_is_never_read(content: FileContent) -> None:
    content.close()
    with pytest.raises(StoreError):
        await SpanReader().read(content, 0, 10)


async def test_content_without_a_file_is_read_as_it_can_be() -> None:
    assert await SpanReader().read(MemoryContent(bytearray(BYTES)), OFFSET, 10) == BYTES[OFFSET : OFFSET + 10]
