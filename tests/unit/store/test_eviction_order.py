"""The order of eviction, by image; checked on an index that grew and on one that was rebuilt from the files."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.oci.descriptor import OCI_INDEX, OCI_MANIFEST, parse_manifest
from proxy.oci.reference import Digest
from proxy.routing.table import RepositoryKey
from proxy.store.eviction_order import (
    BLOBS_STEP,
    GRACE_SECONDS,
    MANIFESTS_LIMIT,
    MANIFESTS_SHARE,
    STEP,
    EvictionPosition,
    EvictionStage,
)
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.tags import Tags
from tests.unit.store.support import made, opened, put_file

KEY = RepositoryKey("reg.example", ("team/app",))
LONG_AGO = time.time() - 10 * GRACE_SECONDS


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


def descriptor(body: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(body)), "size": len(body)}


def image(layers: Sequence[bytes]) -> bytes:
    held = [descriptor(body, "application/vnd.oci.image.layer.v1.tar") for body in layers]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": held[0], "layers": held[1:]}).encode()


def image_index(manifests: Sequence[bytes]) -> bytes:
    held = [descriptor(body, OCI_MANIFEST) for body in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": held}).encode()


def store(layout: Layout, *bodies: bytes, used: float) -> None:
    for body in bodies:
        put_file(layout, body, used=used)


async def link(layout: Layout, index: Index, *manifests: bytes) -> None:
    tags = Tags(layout, index)
    for body in manifests:
        await tags.link_manifest(KEY, Digest.of(body), parse_manifest(body).contents)


async def evicted(files: FilesystemStore, index: Index, size: int) -> list[Digest]:
    """Evict all, and tell in which order."""
    position, found = EvictionPosition(), []
    while position.stage is not EvictionStage.END:
        objects, position = await index.evictable(position, size)
        found += [item.digest for item in objects if await files.remove(item.digest)]
    return found


async def orders(layout: Layout, *manifests: bytes, size: int = 1 << 40) -> list[bytes]:
    """The bodies in the order of eviction; the same with an index that grew and with one that was rebuilt."""
    digests = await asyncio.to_thread(lambda: list(layout.blobs()))
    bodies = {digest: layout.blob(digest).read_bytes() for digest in digests}
    async with opened(layout) as (_, index):
        await index.tidied()
        await link(layout, index, *manifests)
    other = Layout(layout.root.with_name("rebuilt"))
    await asyncio.to_thread(shutil.copytree, layout.root, other.root)
    other.index.unlink()
    found = []
    for each in (layout, other):
        async with opened(each) as (files, index):
            await index.tidied()
            found.append([bodies[digest] for digest in await evicted(files, index, size)])
    await asyncio.to_thread(shutil.rmtree, other.root)
    assert found[0] == found[1]
    assert set(found[0]) == set(bodies.values())
    return found[0]


async def test_the_image_used_longest_ago_goes_as_a_whole_and_its_manifest_last(layout: Layout) -> None:
    first, second = image([b"1", b"1 large"]), image([b"2", b"2 large"])
    store(layout, first, used=time.time() - 100)
    store(layout, second, used=time.time() - 90)
    store(layout, b"1", b"2", b"2 large", b"1 large", used=time.time() - 80)
    assert await orders(layout, first, second) == [b"1 large", b"1", b"2 large", b"2", first, second]


async def test_a_blob_goes_with_the_last_image_that_needs_it(layout: Layout) -> None:
    first, second = image([b"1", b"base"]), image([b"2", b"base"])
    store(layout, first, b"1", b"base", used=time.time() - 100)
    store(layout, second, b"2", used=time.time() - 90)
    assert await orders(layout, first, second) == [b"1", b"base", b"2", first, second]


async def test_what_can_no_longer_be_pulled_goes_first(layout: Layout) -> None:
    broken, whole = image([b"1", b"not stored"]), image([b"2"])
    store(layout, whole, b"2", b"of no manifest", used=LONG_AGO)
    store(layout, broken, b"1", used=LONG_AGO + 10)
    assert await orders(layout, broken, whole) == [b"of no manifest", b"1", b"2", whole, broken]


async def test_an_image_that_is_being_pulled_is_not_of_that_kind(layout: Layout) -> None:
    coming, whole = image([b"1", b"on its way"]), image([b"2"])
    store(layout, whole, b"2", used=LONG_AGO)
    store(layout, coming, b"1", used=time.time())
    assert await orders(layout, coming, whole) == [b"2", b"1", whole, coming]


async def test_what_a_whole_image_needs_is_kept_when_a_broken_one_goes(layout: Layout) -> None:
    broken, whole = image([b"1", b"base", b"not stored"]), image([b"2", b"base"])
    store(layout, whole, b"2", b"base", used=LONG_AGO)
    store(layout, broken, b"1", used=LONG_AGO + 10)
    assert await orders(layout, broken, whole) == [b"1", b"base", b"2", whole, broken]


MANIFESTS = [image([f"not stored {number}".encode()]) for number in range(3)]


@pytest.mark.parametrize(("share", "first"), [(3, [b"2", MANIFESTS[0]]), (2, [MANIFESTS[0], b"2"]), (1, MANIFESTS[:2])])
async def test_manifests_of_evicted_images_stay_until_they_take_more_than_their_share(
    layout: Layout, share: int, first: list[bytes]
) -> None:
    for number, body in enumerate(MANIFESTS):
        store(layout, body, used=LONG_AGO + number)
    whole = image([b"2"])
    store(layout, whole, b"2", used=LONG_AGO + 5)
    gone, size = MANIFESTS, int(share * len(MANIFESTS[0]) / MANIFESTS_SHARE) + 1
    assert (await orders(layout, *gone, whole, size=size))[:2] == first


async def test_an_index_is_used_with_its_images_and_outlives_them(layout: Layout) -> None:
    amd, arm, other = image([b"amd"]), image([b"arm"]), image([b"other"])
    listed = image_index([amd, arm])
    store(layout, listed, amd, b"amd", used=time.time() - 100)
    store(layout, other, b"other", used=time.time() - 50)
    async with opened(layout) as (files, index):
        await index.tidied()
        await link(layout, index, listed, amd, other)
        index.touch(Digest.of(listed))
        expected = [Digest.of(body) for body in (b"other", b"amd", other, amd, listed)]
        assert await evicted(files, index, 1 << 40) == expected


async def test_more_images_than_one_step_examines(layout: Layout) -> None:
    bodies = [f"{number:04}".encode() for number in range(STEP + 50)]
    manifests = [image([body, b"_"]) for body in bodies]
    for number, (body, manifest) in enumerate(zip(bodies, manifests, strict=True)):
        store(layout, body, manifest, used=LONG_AGO + number)
    store(layout, b"_", used=LONG_AGO)
    assert await orders(layout, *manifests) == [*bodies[:-1], bodies[-1], b"_", *manifests]


async def test_one_go_examines_so_many_blobs(layout: Layout) -> None:
    """Other requests to the index wait for it, and a registry decides how many blobs an image has."""
    manifests = [image([f"{number} {each}".encode() for each in range(BLOBS_STEP // 4)]) for number in range(8)]
    bodies = [f"{number} {each}".encode() for number in range(8) for each in range(BLOBS_STEP // 4)]
    store(layout, *bodies, *manifests, used=LONG_AGO)
    async with opened(layout) as (_, index):
        await index.tidied()
        await link(layout, index, *manifests)
        start = EvictionPosition(EvictionStage.IMAGES)
        objects, position = await index.evictable(start, 1 << 40)
        assert len(objects) == BLOBS_STEP
        found = {item.digest for item in objects}
        while position.stage is EvictionStage.IMAGES:
            objects, position = await index.evictable(position, 1 << 40)
            found |= {item.digest for item in objects}
    assert found == {Digest.of(body) for body in bodies}


@pytest.mark.parametrize("is_index", [False, True])
async def test_manifests_that_are_not_evicted_with_their_images_have_a_limit(layout: Layout, is_index: bool) -> None:
    """One small image that is pulled again and again keeps neither the images nor the indexes that share it."""
    shared, other = image([b"shared"]), image([b"other"])
    padded = [
        (image_index([shared]) if is_index else image([b"shared"])) + b" " * 10_000 + b"\n" * number
        for number in range(10)
    ]
    for number, body in enumerate(padded):
        store(layout, body, used=time.time() - 100 + number)
    store(layout, shared, b"shared", used=time.time())
    store(layout, other, b"other", used=time.time() - 200)
    size = int(sum(map(len, padded)) / 2 / MANIFESTS_LIMIT)
    order = await orders(layout, shared, other, *padded, size=size)
    assert order.index(padded[3]) < order.index(b"other")
    assert order.index(padded[7]) > order.index(b"shared")


layers = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=3, unique=True)
changes = st.lists(st.tuples(st.sampled_from(["store", "pull", "remove"]), layers), max_size=10)


@pytest.mark.slow
@settings(max_examples=50)
@given(changes=changes)
async def test_an_index_that_grew_agrees_with_one_that_was_rebuilt(
    tmp_path_factory: pytest.TempPathFactory, changes: Sequence[tuple[str, list[bytes]]]
) -> None:
    layout = made(tmp_path_factory.mktemp("store"))
    async with opened(layout) as (files, index):
        for number, (kind, bodies) in enumerate(changes):
            manifest = image(bodies)
            for body in (bodies[0], manifest) if kind == "pull" else bodies[:1]:
                if kind == "remove":
                    await files.remove(Digest.of(body))
                else:
                    store(layout, body, used=LONG_AGO + number)
                    await index.add(Digest.of(body))
            if kind == "pull":
                await link(layout, index, manifest)
    counts = await asyncio.to_thread(rows, layout)
    layout.index.unlink()
    async with opened(layout):
        pass
    assert await asyncio.to_thread(rows, layout) == counts


def rows(layout: Layout) -> list[tuple[object, ...]]:
    """What the index file has of each object, without the times of use."""
    with contextlib.closing(sqlite3.connect(layout.index)) as file:
        return file.execute("SELECT digest, is_manifest, present, missing, named FROM objects ORDER BY 1").fetchall()
