"""What an image consists of, where its registry made it large on purpose."""

import json
from pathlib import Path

import pytest

from proxy.oci.descriptor import MANIFEST_LIMIT, OCI_INDEX, OCI_MANIFEST
from proxy.oci.reference import Digest
from proxy.store.inventory import CONTENT_LIMIT, content_of
from proxy.store.platforms import Platforms, platforms_of
from tests.unit.store.support import made, put_file

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
