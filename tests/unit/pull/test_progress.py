import asyncio

import pytest

from proxy.pull.blobs.live import HELD_BACK, STEP, Abandoned, Progress, sendable
from tests.fakes.memory_store import MemoryContent

MIB = 1024 * 1024


@pytest.fixture
async def progress() -> Progress:
    """A download of 64 MiB."""
    made = Progress()
    made.start(MemoryContent(bytearray()), 64 * MIB)
    return made


def readable(progress: Progress, offset: int = 0) -> int:
    return sendable(progress, offset, None, hold_all=False)


async def test_the_first_bytes_are_reported_at_once(progress: Progress) -> None:
    progress.advance(1)
    assert progress.available == 1


async def test_readers_are_notified_of_a_whole_step_at_once(progress: Progress) -> None:
    for arrived in range(0, 4 * STEP + 1, STEP):
        progress.advance(arrived)
    assert progress.available == 4 * STEP
    assert readable(progress) == 4 * STEP - HELD_BACK


async def test_few_bytes_are_reported_soon(progress: Progress) -> None:
    progress.advance(2 * STEP)
    progress.advance(2 * STEP + 1)
    assert progress.available == 2 * STEP
    async with asyncio.timeout(10):
        await progress.changed()
    assert progress.available == 2 * STEP + 1


async def test_the_end_is_reported_at_once(progress: Progress) -> None:
    progress.advance(2 * STEP)
    progress.advance(2 * STEP + 1)
    progress.complete(2 * STEP + 2)
    assert readable(progress) == 2 * STEP + 2
    assert readable(progress, 2 * STEP) == 2


async def test_what_has_arrived_before_a_failure_is_reported_with_it(progress: Progress) -> None:
    progress.advance(2 * STEP)
    progress.advance(2 * STEP + 1)
    progress.fail(Abandoned("its writer has left"))
    assert progress.available == 2 * STEP + 1


async def test_few_bytes_are_reported_again_and_again(progress: Progress) -> None:
    for arrived in range(2 * STEP, 2 * STEP + 4):
        progress.advance(arrived)
        while progress.available < arrived:
            async with asyncio.timeout(10):
                await progress.changed()
    assert progress.available == 2 * STEP + 3
