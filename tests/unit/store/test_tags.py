import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.descriptor import OCI_MANIFEST, Contents, Descriptor
from proxy.oci.reference import Digest, Tag
from proxy.routing.table import RepositoryKey
from proxy.store.blobs import StoreError
from proxy.store.index import Index
from proxy.store.layout import Layout, Link, LinkKind
from proxy.store.tags import TagEntry, Tags, read_tag
from tests.unit.store.support import descriptors, made, modes, opened, put_file, unlink

KEY = RepositoryKey("icr.io", ("cpopen/app", "local/app"))
TAG = Tag("1.0")
LAYER = Digest.of(b"layer")
LAYER_LINK = Link(LAYER, LinkKind.BLOB)
TEXT = f'{{"schemaVersion": 2, "mediaType": "{OCI_MANIFEST}", "layers": [{{"digest": "{LAYER}"}}]}}'.encode()
MANIFEST = Digest.of(TEXT)
ENTRY = TagEntry(Descriptor(OCI_MANIFEST, MANIFEST, len(TEXT)), 1_700_000_000.25)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


@pytest.fixture
async def index(layout: Layout) -> AsyncIterator[Index]:
    async with opened(layout) as (_, index):
        await index.tidied()
        yield index


def tag_file(layout: Layout) -> Path:
    return layout.repository(KEY.text) / "tags" / "1.0"


async def test_a_tag_comes_back_after_a_restart(layout: Layout, index: Index) -> None:
    before = descriptors()
    tags = Tags(layout, index)
    assert await tags.find(KEY, TAG) is None
    await tags.set(KEY, TAG, ENTRY)
    assert await tags.find(KEY, TAG) == ENTRY
    assert await Tags(layout, index).find(KEY, TAG) == ENTRY
    assert descriptors() == before
    assert modes(layout.repositories) == {"0o40700", "0o100600"}
    await tags.remove(KEY, TAG)
    await tags.remove(KEY, TAG)
    assert await tags.find(KEY, TAG) is None
    assert await Tags(layout, index).find(KEY, TAG) is None


async def test_a_tag_moves(layout: Layout, index: Index) -> None:
    tags = Tags(layout, index)
    await tags.set(KEY, TAG, ENTRY)
    moved = TagEntry(Descriptor(OCI_MANIFEST, LAYER, 5), 1_700_000_001.0)
    await tags.set(KEY, TAG, moved)
    assert await Tags(layout, index).find(KEY, TAG) == moved
    assert [path.name for path in tag_file(layout).parent.iterdir()] == ["1.0"]


GOOD = {"digest": str(MANIFEST), "mediaType": OCI_MANIFEST, "size": 5, "confirmed": 1000.0}
BROKEN = [
    *("", "{", "[]", "null", "\xff\xfe", "[" * 4000, "x" * 5000),
    *(json.dumps({name: value for name, value in GOOD.items() if name != left}) for left in GOOD),
    json.dumps(GOOD | {"digest": "sha256:short"}),
    json.dumps(GOOD | {"digest": 5}),
    json.dumps(GOOD | {"size": "many"}),
    json.dumps(GOOD | {"size": -1}),
    json.dumps(GOOD | {"size": float("inf")}),
    json.dumps(GOOD | {"confirmed": float("nan")}),
    json.dumps(GOOD | {"confirmed": float("inf")}),
    json.dumps(GOOD | {"confirmed": None}),
]


@pytest.mark.parametrize("text", BROKEN)
async def test_a_tag_file_that_cannot_be_read_is_unknown(layout: Layout, index: Index, text: str) -> None:
    tags = Tags(layout, index)
    await tags.set(KEY, TAG, ENTRY)
    tag_file(layout).write_text(text, encoding="latin-1")
    fresh = Tags(layout, index)
    assert await fresh.find(KEY, TAG) is None
    await fresh.set(KEY, TAG, ENTRY)
    assert await Tags(layout, index).find(KEY, TAG) == ENTRY


async def test_a_time_to_come_keeps_no_tag_fresh(layout: Layout, index: Index) -> None:
    await Tags(layout, index).set(KEY, TAG, TagEntry(ENTRY.descriptor, time.time() + 3600))
    assert await Tags(layout, index).find(KEY, TAG) is None


async def test_a_tag_file_that_is_a_link_is_not_followed(layout: Layout, index: Index, tmp_path: Path) -> None:
    await Tags(layout, index).set(KEY, TAG, ENTRY)
    tag_file(layout).rename(tmp_path / "elsewhere")
    tag_file(layout).symlink_to(tmp_path / "elsewhere")
    fresh = Tags(layout, index)
    assert await fresh.find(KEY, TAG) is None
    before = (tmp_path / "elsewhere").read_bytes()
    await fresh.set(KEY, TAG, TagEntry(ENTRY.descriptor, 1.0))
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert not tag_file(layout).is_symlink()


async def test_what_is_set_while_a_file_is_read_counts(layout: Layout, index: Index) -> None:
    await Tags(layout, index).set(KEY, TAG, ENTRY)
    newer = TagEntry(ENTRY.descriptor, 1_700_000_060.0)
    loop = asyncio.get_running_loop()

    def set_meanwhile(path: Path) -> TagEntry | None:
        entry = read_tag(path)
        asyncio.run_coroutine_threadsafe(tags.set(KEY, TAG, newer), loop).result(10)
        return entry

    tags = Tags(layout, index, set_meanwhile)
    assert await tags.find(KEY, TAG) == newer
    assert await tags.find(KEY, TAG) == newer


async def test_a_tag_that_is_removed_while_its_file_is_read_does_not_come_back(layout: Layout, index: Index) -> None:
    await Tags(layout, index).set(KEY, TAG, ENTRY)
    loop, removed = asyncio.get_running_loop(), threading.Event()

    def remove_meanwhile(path: Path) -> TagEntry | None:
        entry = read_tag(path)
        if not removed.is_set():
            removed.set()
            asyncio.run_coroutine_threadsafe(tags.remove(KEY, TAG), loop).result(10)
        return entry

    tags = Tags(layout, index, remove_meanwhile)
    await tags.find(KEY, TAG)
    assert removed.is_set()
    assert tags.remembered(KEY, TAG) is None
    assert await tags.find(KEY, TAG) is None


async def test_trouble_of_the_disk_is_reported(layout: Layout, index: Index) -> None:
    await asyncio.to_thread(layout.repositories.rmdir)
    layout.repositories.write_text("in the way")
    tags = Tags(layout, index)
    with pytest.raises(StoreError, match="cannot write a tag to the cache"):
        await tags.set(KEY, TAG, ENTRY)
    assert await tags.find(KEY, TAG) == ENTRY  # for this process


async def test_links_come_back_from_the_manifests(layout: Layout) -> None:
    other = RepositoryKey("icr.io", ("cpopen/other",))
    async with opened(layout) as (_, index):
        tags = Tags(layout, index)
        put_file(layout, TEXT)
        for _ in range(2):
            await tags.link_manifest(KEY, MANIFEST, Contents(blobs=(Descriptor("a/b", LAYER, 5),)))
        assert await tags.is_linked(KEY, LAYER_LINK)
        assert not await tags.is_linked(other, LAYER_LINK)
    layout.index.unlink()
    async with opened(layout) as (_, index):
        tags = Tags(layout, index)
        assert await tags.is_linked(KEY, LAYER_LINK)
        assert await tags.is_linked(KEY, Link(MANIFEST, LinkKind.MANIFEST))
        assert not await tags.is_linked(other, LAYER_LINK)


async def test_a_link_outlives_the_eviction_of_its_blob(layout: Layout) -> None:
    """It says what the upstream said, which is true of content fetched again as well."""
    async with opened(layout) as (store, index):
        digest = put_file(layout, b"layer")
        tags = Tags(layout, index)
        await tags.link_blob(KEY, digest)
        await store.remove(digest)
        assert await tags.is_linked(KEY, Link(digest, LinkKind.BLOB))
        assert await Tags(layout, index).is_linked(KEY, Link(digest, LinkKind.BLOB))


async def test_what_was_remembered_can_be_forgotten(layout: Layout, index: Index) -> None:
    tags = Tags(layout, index)
    await tags.set(KEY, TAG, ENTRY)
    await tags.link_blob(KEY, LAYER)
    await asyncio.to_thread(tag_file(layout).unlink)
    await asyncio.to_thread(unlink, layout, KEY.text)
    assert await tags.find(KEY, TAG) is not None
    assert await tags.is_linked(KEY, LAYER_LINK)
    tags.forget()
    assert await tags.find(KEY, TAG) is None
    assert not await tags.is_linked(KEY, LAYER_LINK)


names = st.text(st.sampled_from('ab/:"[], '), max_size=5)
tag_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,5}", fullmatch=True)
places = st.tuples(st.builds(RepositoryKey, names, st.lists(names, max_size=3).map(tuple)), st.builds(Tag, tag_names))


@given(one=places, other=places)
def test_different_tags_never_share_a_file_or_a_row(
    one: tuple[RepositoryKey, Tag], other: tuple[RepositoryKey, Tag]
) -> None:
    layout = Layout(Path("/store"))
    files = [layout.repository(key.text) / "tags" / tag.name for key, tag in (one, other)]
    assert (files[0] == files[1]) == (one == other)
    assert (str(one[0]) == str(other[0])) == (one[0] == other[0])
