"""What is dropped is what was found wrong, and not what has been stored under the same digest since."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.eviction import Bounds, Evictor
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index, Totals
from proxy.store.layout import Layout
from proxy.store.maintenance import verify_all
from tests.fakes.proxy import metric
from tests.unit.store.support import made, opened, put, put_file, replaced_at_first_read

GOOD = b"the right bytes"
DIGEST = Digest.of(GOOD)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


@pytest.fixture
async def store(layout: Layout) -> AsyncIterator[tuple[FilesystemStore, Index]]:
    async with opened(layout) as found:
        await found[1].tidied()
        yield found


async def test_a_good_file_that_has_taken_the_place_of_a_wrong_one_stays(
    layout: Layout, store: tuple[FilesystemStore, Index]
) -> None:
    blobs, index = store
    layout.blob(await put(blobs, GOOD)).write_bytes(b"the wrong bytes")
    wrong = await blobs.find(DIGEST)
    assert wrong is not None
    assert await blobs.remove(DIGEST)  # evicted
    await put(blobs, GOOD)  # and fetched again
    removed = await blobs.remove(DIGEST, wrong)
    wrong.close()
    assert (removed, layout.blob(DIGEST).exists()) == (False, True)
    assert await index.totals() == Totals(len(GOOD), 1)


async def test_the_wrong_file_itself_goes(layout: Layout, store: tuple[FilesystemStore, Index]) -> None:
    blobs, index = store
    await put(blobs, GOOD)
    wrong = await blobs.find(DIGEST)
    assert wrong is not None
    assert await blobs.remove(DIGEST, wrong)
    wrong.close()
    assert not layout.blob(DIGEST).exists()
    assert await index.totals() == Totals(0, 0)


async def test_verifying_leaves_what_is_stored_while_it_reads(
    layout: Layout, store: tuple[FilesystemStore, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, _ = store
    path = layout.blob(await put(blobs, GOOD))
    path.write_bytes(b"the wrong bytes")
    replaced_at_first_read(monkeypatch, path, GOOD)
    assert [checked.is_right async for checked in verify_all(blobs)] == [False]
    assert path.exists(), "the good file that was stored meanwhile has been removed"
    assert path.read_bytes() == GOOD


async def test_only_files_that_were_there_count_as_evicted(
    layout: Layout, store: tuple[FilesystemStore, Index]
) -> None:
    blobs, index = store
    digests = [put_file(layout, bytes([number]) * 1024, used=1000.0 + number) for number in range(10)]
    for digest in digests:
        await index.add(digest)
    for digest in digests[:4]:
        layout.blob(digest).unlink()  # by hand, beside the running proxy
    before = metric("scope_proxy_cache_evictions_total", reason="size")
    evictor = Evictor(layout, index, blobs, Bounds((await index.totals()).index + 5 * 1024, 0))
    assert await evictor.make_room()
    evicted = sum(not layout.blob(digest).exists() for digest in digests[4:])
    assert metric("scope_proxy_cache_evictions_total", reason="size") - before == evicted
