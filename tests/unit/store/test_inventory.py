"""What an image consists of, where its registry made it large on purpose."""

import asyncio
import json
from pathlib import Path

import pytest

from proxy.oci.descriptor import MANIFEST_LIMIT, OCI_INDEX, OCI_MANIFEST, Descriptor
from proxy.oci.reference import Digest, Tag
from proxy.routing.table import RepositoryKey
from proxy.rules.image_pattern import ImagePattern
from proxy.store.inventory import CONTENT_LIMIT, content_of, stored_tags
from proxy.store.platforms import Platforms, platforms_of
from proxy.store.tags import TagEntry, Tags, read_tag
from tests.unit.store.support import made, opened, put_file

pytestmark = pytest.mark.security

LAYER = "application/vnd.oci.image.layer.v1.tar"
AMD = {"os": "linux", "architecture": "amd64"}


def manifest(layer: bytes) -> bytes:
    """The largest manifest that is stored."""
    held = {"mediaType": LAYER, "digest": str(Digest.of(layer)), "size": len(layer)}
    return (
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": held, "layers": []})
        .encode()
        .ljust(MANIFEST_LIMIT)
    )


def index_of(*bodies: bytes) -> bytes:
    held = [
        {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(body)), "size": len(body), "platform": AMD}
        for body in bodies
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": held}).encode()


def test_so_many_bytes_of_manifests_are_read_of_one_image(tmp_path: Path) -> None:
    layout, layers = made(tmp_path), [str(number).encode() for number in range(CONTENT_LIMIT // MANIFEST_LIMIT + 4)]
    bodies = [manifest(layer) for layer in layers]
    index = index_of(*bodies)
    for body in (*bodies, index):
        put_file(layout, body)
    found = set(content_of(layout, Digest.of(index)))
    assert {Digest.of(index), *map(Digest.of, bodies)} <= found
    assert len(found & set(map(Digest.of, layers))) == CONTENT_LIMIT // MANIFEST_LIMIT

    reads: list[Digest] = []

    def read(digest: Digest) -> bytes:
        reads.append(digest)
        return layout.blob(digest).read_bytes()

    platforms_of(Digest.of(index), read, {}, CONTENT_LIMIT)
    assert len(reads) == 1 + CONTENT_LIMIT // MANIFEST_LIMIT


def test_a_manifest_that_an_index_names_a_thousand_times_is_read_once() -> None:
    body = manifest(b"layer")
    index = index_of(*[body] * 1000)
    contents, reads = {Digest.of(each): each for each in (body, index)}, list[Digest]()

    def read(digest: Digest) -> bytes | None:
        reads.append(digest)
        return contents.get(digest)

    sizes = {Digest.of(b"layer"): 5}
    assert platforms_of(Digest.of(index), read, sizes, CONTENT_LIMIT) == Platforms(("linux/amd64",))
    assert reads == [Digest.of(index), Digest.of(body)]


async def test_tags_of_repositories_that_no_pattern_covers_are_not_read(tmp_path: Path) -> None:
    """A full cache looks for pinned images every 10 s; a client makes any number of tags in its own repositories."""
    layout, reads = await asyncio.to_thread(made, tmp_path), list[Path]()

    def read(path: Path) -> TagEntry | None:
        reads.append(path)
        return read_tag(path)

    patterns = [ImagePattern.parse("reg.example/app:1"), ImagePattern.parse("reg.example/node-name")]
    entry = TagEntry(Descriptor(OCI_MANIFEST, Digest.of(b"x"), 1), 1.0)
    async with opened(layout) as (_, index):
        tags = Tags(layout, index)
        for repository in ("app", "other", "upstream-name"):
            for tag in ("1", "2"):
                await tags.set(RepositoryKey("reg.example", (repository,)), Tag(tag), entry)
        await tags.note_name(RepositoryKey("reg.example", ("upstream-name",)), "reg.example/node-name")
    found = await asyncio.to_thread(lambda: {str(tag) for tag in stored_tags(layout, patterns, read)})
    assert found == {"reg.example/app:1", "reg.example/node-name:1", "reg.example/node-name:2"}
    assert len(reads) == 4
