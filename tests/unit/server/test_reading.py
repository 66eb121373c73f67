"""What is read is the same, whether the system has it in memory or a thread has to fetch it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.server.send import PROBE_STEP, SpanReader
from proxy.store.blobs import StoreError
from proxy.store.file_content import FileContent
from tests.fakes.memory_store import MemoryContent

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
    codes: list[int] = []

    def fail(*_: object) -> int:
        codes.append(code)
        raise OSError(code, os.strerror(code))

    patch.setattr(os, call, fail)
    return codes


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


async def test_a_file_system_that_cannot_tell_is_checked_once(
    content: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, codes = SpanReader(), refuse(monkeypatch, "preadv", errno.EOPNOTSUPP)
    for _ in range(3):
        await reader.read(content, 0, 10)
    assert len(codes) == 1


async def test_a_broken_disk_is_reported_as_such(content: FileContent, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.fixture
def large(tmp_path: Path) -> Iterator[FileContent]:
    path = tmp_path / "large"
    path.write_bytes(bytes(3 * PROBE_STEP + 5))
    opened = FileContent(os.open(path, os.O_RDONLY))
    yield opened
    opened.close()


def reads(patch: pytest.MonkeyPatch, held: int) -> list[tuple[int, int]]:
    """Let the system hold so many bytes from the beginning on; what threads read, as offset and length."""
    found: list[tuple[int, int]] = []
    sendfile = os.sendfile

    def probe(_: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        if offset >= held:
            raise BlockingIOError
        return len(buffers[0])

    def send(connection: int, descriptor: int, offset: int, length: int) -> int:
        found.append((offset, sendfile(connection, descriptor, offset, length)))
        return found[-1][1]

    patch.setattr(os, "preadv", probe)
    patch.setattr(os, "sendfile", send)
    return found


async def test_what_the_system_holds_is_not_fetched(large: FileContent, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads = reads(monkeypatch, held=large.size)
    assert await SpanReader().fetch(large.descriptor, 0, large.size)
    assert not in_threads


@pytest.mark.parametrize("held", [0, 1, PROBE_STEP, 2 * PROBE_STEP + 1, 3 * PROBE_STEP + 4])
async def test_from_the_first_part_that_is_not_held_on_all_is_fetched(
    large: FileContent, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    in_threads = reads(monkeypatch, held)
    assert await SpanReader().fetch(large.descriptor, 0, large.size)
    assert in_threads[0][0] <= -(-held // PROBE_STEP) * PROBE_STEP
    assert sum(length for _, length in in_threads) == large.size - in_threads[0][0]


async def test_only_what_is_to_be_sent_is_fetched(large: FileContent, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads = reads(monkeypatch, held=0)
    await SpanReader().fetch(large.descriptor, 100, 300)
    assert in_threads == [(100, 300)]


async def test_where_there_is_no_telling_nothing_counts_as_held(
    large: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, codes = SpanReader(), refuse(monkeypatch, "preadv", errno.EOPNOTSUPP)
    for _ in range(2):
        assert not await reader.fetch(large.descriptor, 0, large.size)
    assert len(codes) == 1


async def test_a_disk_that_breaks_while_it_is_fetched_is_reported(
    large: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(monkeypatch, held=0)
    refuse(monkeypatch, "sendfile", errno.EIO)
    with pytest.raises(StoreError) as caught:
        await SpanReader().fetch(large.descriptor, 0, large.size)
    assert caught.value.reason == "eio"


async def test_a_file_that_has_been_cut_is_fetched_as_far_as_it_goes(
    large: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads = reads(monkeypatch, held=0)
    os.truncate(f"/proc/self/fd/{large.descriptor}", PROBE_STEP)
    await SpanReader().fetch(large.descriptor, 0, large.size)
    assert sum(length for _, length in in_threads) == PROBE_STEP
    assert in_threads[-1] == (PROBE_STEP, 0)


async def test_without_a_descriptor_to_spare_nothing_is_fetched(
    large: FileContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads = reads(monkeypatch, held=0)
    codes = refuse(monkeypatch, "open", errno.EMFILE)
    assert not await SpanReader().fetch(large.descriptor, 0, large.size)
    assert codes == [errno.EMFILE]
    assert not in_threads
