"""Small stored content is handed out at once only while nothing speaks against its bytes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.oci.reference import Digest
from proxy.pull.blobs.stored import Stored, Verified
from proxy.transport.singleflight import Background
from tests.fakes.memory_store import MemoryContent, MemoryStore

CONTENT = b"a small layer"
DIGEST, OTHER = Digest.of(CONTENT), Digest.of(b"another layer")


class HeldContent(MemoryContent):
    """Reads nothing before its time, so that a check of it is under way until then."""

    def __init__(self, data: bytearray, until: asyncio.Event) -> None:
        super().__init__(data)
        self._until = until

    async def read(self, offset: int, length: int) -> bytes:
        await self._until.wait()
        return await super().read(offset, length)


class HeldStore(MemoryStore):
    """One small content, whose reads can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.committed[DIGEST] = bytearray(CONTENT)
        self.may_check, self.may_read, self.is_reading = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def find(self, digest: Digest) -> MemoryContent | None:
        data = self.committed.get(digest)
        return None if data is None else HeldContent(data, self.may_check)

    async def small(self, digest: Digest) -> bytes | None:
        content = await super().small(digest)
        self.is_reading.set()
        await self.may_read.wait()
        return content


class Hot:
    """Stored content that is known to be small and right."""

    def __init__(self, background: Background) -> None:
        self.background, self.store, self.verified = background, HeldStore(), Verified()
        self.stored = Stored(self.store, self.verified, background, "ingest", distrusted_limit=1)

    async def opened(self) -> None:
        progress = await self.stored.open(DIGEST)
        assert progress is not None
        progress.release()

    async def speak_against(self, what: str) -> None:
        if what == "spoiled":
            self.verified.spoil(DIGEST)
            return
        self.stored.distrust(DIGEST)
        if what == "under check":
            await self.opened()
            self.stored.distrust(OTHER)  # there is room for one: the other is distrusted no more


@pytest.fixture
async def hot() -> AsyncIterator[Hot]:
    background = Background()
    made = Hot(background)
    await made.opened()
    yield made
    await background.close()


AGAINST = pytest.mark.parametrize("what", ["distrusted", "spoiled", "under check"])


@AGAINST
async def test_what_is_not_to_be_trusted_is_not_handed_out(hot: Hot, what: str) -> None:
    hot.store.may_read.set()
    assert await hot.stored.small(DIGEST) == CONTENT
    hot.store.is_reading.clear()
    await hot.speak_against(what)
    assert await hot.stored.small(DIGEST) is None
    assert not hot.store.is_reading.is_set()


@AGAINST
async def test_what_is_not_to_be_trusted_any_more_after_its_read_is_not_handed_out(hot: Hot, what: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(hot.stored.small(DIGEST))
        await hot.store.is_reading.wait()
        await hot.speak_against(what)
        hot.store.may_read.set()
    assert reading.result() is None


async def test_what_was_checked_and_is_right_is_handed_out_again(hot: Hot) -> None:
    hot.store.may_read.set()
    await hot.speak_against("under check")
    assert await hot.stored.small(DIGEST) is None
    hot.store.may_check.set()
    await hot.background.drained()
    assert await hot.stored.small(DIGEST) == CONTENT
