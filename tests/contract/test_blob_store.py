"""What every BlobStore must do, whatever it keeps its bytes in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.blobs import BlobStore, StoreError
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.small import SMALL_CONTENT
from tests.fakes.memory_store import MemoryStore

DATA = b"some bytes of a layer" * 1000
DIGEST = Digest.of(DATA)
OTHER = Digest.of(b"other")

Opened = Callable[[Path], AbstractAsyncContextManager[BlobStore]]
ORIGIN = Origin("https", "registry.example", 443)


@asynccontextmanager
async def _filesystem(directory: Path) -> AsyncIterator[BlobStore]:
    layout = Layout(directory / "store")
    index = Index(layout)
    await index.open()
    try:
        yield FilesystemStore(layout, index)
    finally:
        await index.close()


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[BlobStore]:
    yield MemoryStore()


@pytest.fixture(params=[_filesystem, _memory], ids=["filesystem", "memory"])
def opened(request: pytest.FixtureRequest) -> Opened:
    found: Opened = request.param
    return found


@pytest.fixture
async def store(opened: Opened, tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with opened(tmp_path) as store:
        yield store


async def put(store: BlobStore, data: bytes, algorithm: str = "sha256") -> Digest:
    digest = Digest.of(data, algorithm)
    ingest = await store.begin(digest)
    assert ingest is not None
    await ingest.write(data)
    await ingest.commit()
    ingest.close()
    return digest


async def get(store: BlobStore, digest: Digest) -> bytes | None:
    content = await store.find(digest)
    if content is None:
        return None
    data = await content.read(0, content.size)
    content.close()
    return data


async def listed(store: BlobStore) -> dict[Digest, int]:
    return {digest: size async for digest, size in store.list()}


async def test_nothing_is_found_in_an_empty_store(store: BlobStore) -> None:
    assert await store.find(DIGEST) is None
    assert await store.arriving(DIGEST) is None
    assert await store.remove(DIGEST) is False
    assert await listed(store) == {}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "one byte", "some"])
async def test_what_is_committed_is_found(store: BlobStore, data: bytes, algorithm: str) -> None:
    digest = await put(store, data, algorithm)
    content = await store.find(digest)
    assert content is not None
    assert content.size == len(data)
    assert await content.read(0, len(data) + 10) == data
    content.close()
    assert await listed(store) == {digest: len(data)}


@pytest.mark.parametrize("size", [0, 7, SMALL_CONTENT])
async def test_small_content_is_had_at_once_as_long_as_it_is_stored(store: BlobStore, size: int) -> None:
    data = DATA[:1] * size
    digest = await put(store, data)
    assert await store.small(digest) == data
    assert await store.remove(digest)
    assert await store.small(digest) is None


async def test_large_content_is_never_small(store: BlobStore) -> None:
    assert await store.small(await put(store, bytes(SMALL_CONTENT + 1))) is None


async def test_any_part_can_be_read(store: BlobStore) -> None:
    content = await store.find(await put(store, DATA))
    assert content is not None
    assert await content.read(7, 100) == DATA[7:107]
    assert await content.read(len(DATA) - 5, 100) == DATA[-5:]
    assert await content.read(len(DATA), 100) == b""
    content.close()


async def test_nothing_is_found_before_the_commit(store: BlobStore) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.write(DATA)
    assert await store.find(DIGEST) is None
    assert await listed(store) == {}
    await ingest.commit()
    assert await get(store, DIGEST) == DATA
    ingest.close()


async def test_content_is_read_while_it_grows(store: BlobStore) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    assert ingest.size == 0
    await ingest.expect(len(DATA), ORIGIN)
    for start in range(0, len(DATA), 5000):
        await ingest.write(DATA[start : start + 5000])
        assert ingest.size == min(start + 5000, len(DATA))
        assert await ingest.read(0, ingest.size) == DATA[: ingest.size]
    await ingest.commit()
    assert await ingest.read(3, 50) == DATA[3:53]
    ingest.close()


async def test_a_size_that_nobody_knows_may_be_reported(store: BlobStore) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.expect(None, ORIGIN)
    await ingest.write(DATA)
    await ingest.commit()
    ingest.close()
    assert await get(store, DIGEST) == DATA


async def test_a_digest_has_one_writer(store: BlobStore) -> None:
    first = await store.begin(DIGEST)
    assert first is not None
    assert await store.begin(DIGEST) is None
    other = await store.begin(OTHER)
    assert other is not None
    await first.abort()
    again = await store.begin(DIGEST)
    assert again is not None
    for ingest in (first, other, again):
        await ingest.abort()
        ingest.close()


async def test_a_digest_may_be_written_again_after_its_commit(store: BlobStore) -> None:
    await put(store, DATA)
    await put(store, DATA)
    assert await get(store, DIGEST) == DATA
    assert await listed(store) == {DIGEST: len(DATA)}


async def test_what_was_dropped_leaves_nothing_but_its_readers(store: BlobStore) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.write(b"wrong")
    await ingest.abort()
    assert await ingest.read(0, 10) == b"wrong"
    ingest.close()
    assert await store.find(DIGEST) is None
    fresh = await store.begin(DIGEST)
    assert fresh is not None
    assert fresh.size == 0
    await fresh.abort()
    fresh.close()


async def test_dropping_after_the_commit_changes_nothing(store: BlobStore) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await ingest.write(DATA)
    await ingest.commit()
    holder = await store.begin(DIGEST)  # somebody else by now
    assert holder is not None
    await ingest.abort()
    assert await store.begin(DIGEST) is None
    assert await get(store, DIGEST) == DATA
    await holder.abort()
    for each in (ingest, holder):
        each.close()


@pytest.mark.parametrize("commits", [True, False])
async def test_what_has_ended_takes_no_more(store: BlobStore, commits: bool) -> None:
    ingest = await store.begin(DIGEST)
    assert ingest is not None
    await (ingest.commit() if commits else ingest.abort())
    with pytest.raises(StoreError):
        await ingest.write(b"x")
    with pytest.raises(StoreError):
        await ingest.commit()
    ingest.close()


async def test_a_reader_goes_on_after_the_content_was_removed(store: BlobStore) -> None:
    content = await store.find(await put(store, DATA))
    assert content is not None
    assert await store.remove(DIGEST) is True
    assert await store.find(DIGEST) is None
    assert await store.remove(DIGEST) is False
    await put(store, DATA)
    assert await content.read(0, len(DATA)) == DATA
    content.close()


async def test_only_the_content_that_is_meant_is_removed(store: BlobStore) -> None:
    first = await store.find(await put(store, DATA))
    assert first is not None
    assert await store.remove(DIGEST) is True
    second = await store.find(await put(store, DATA))
    assert second is not None
    assert await store.remove(DIGEST, first) is False
    assert await store.remove(DIGEST, second) is True
    assert await store.remove(DIGEST, second) is False
    for content in (first, second):
        content.close()


async def test_closed_content_cannot_be_read(store: BlobStore) -> None:
    content = await store.find(await put(store, DATA))
    assert content is not None
    content.close()
    content.close()
    with pytest.raises(StoreError):
        await content.read(0, 1)


async def test_many_digests_are_written_at_the_same_time(store: BlobStore) -> None:
    bodies = [str(number).encode() * 5000 for number in range(40)]
    async with asyncio.TaskGroup() as tasks:
        for body in bodies:
            tasks.create_task(put(store, body))
    assert await listed(store) == {Digest.of(body): len(body) for body in bodies}
    assert [await get(store, Digest.of(body)) for body in bodies] == bodies


async def test_of_many_who_begin_at_once_one_may(store: BlobStore) -> None:
    begun = [ingest for ingest in await asyncio.gather(*(store.begin(DIGEST) for _ in range(20))) if ingest]
    assert len(begun) == 1
    await begun[0].abort()
    begun[0].close()


async def test_a_list_that_is_not_read_to_its_end_does_no_harm(store: BlobStore) -> None:
    for number in range(3):
        await put(store, str(number).encode())
    async for _, size in store.list():
        assert size == 1
        break
    assert len(await listed(store)) == 3


@given(pieces=st.lists(st.binary(max_size=50), max_size=8))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_come_back_however_they_arrive(
    opened: Opened, tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    async def run() -> bytes | None:
        async with opened(tmp_path_factory.mktemp("store")) as store:
            digest = Digest.of(b"".join(pieces))
            ingest = await store.begin(digest)
            assert ingest is not None
            for piece in pieces:
                await ingest.write(piece)
            await ingest.commit()
            ingest.close()
            return await get(store, digest)

    assert asyncio.run(run()) == b"".join(pieces)
