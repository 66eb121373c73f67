import gzip
import io
import json
import tarfile

import pytest

from proxy.testbed.images import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    demo_images,
    make_artifact,
    make_image,
    make_index,
    make_layer,
    sha256,
)


def test_images_are_the_same_every_time() -> None:
    assert [image.digest for image in demo_images()] == [image.digest for image in demo_images()]


@pytest.mark.parametrize("image", [*demo_images(), *demo_images()[-1].platforms], ids=lambda image: image.media_type)
def test_every_digest_and_size_is_right(image: Image) -> None:
    assert image.digest == sha256(image.manifest)
    document = json.loads(image.manifest)
    assert document["mediaType"] == image.media_type
    for named in [*document.get("layers", []), *filter(None, [document.get("config")])]:
        blob = image.blobs[named["digest"]]
        assert (sha256(blob), len(blob)) == (named["digest"], named["size"])
    for named, child in zip(document.get("manifests", []), image.platforms, strict=True):
        assert (named["digest"], named["size"]) == (child.digest, len(child.manifest))


def test_layers_unpack_and_match_the_diff_ids() -> None:
    image = make_image("team/app", "1", {"etc/motd": b"hello\n"})
    document = json.loads(image.manifest)
    layer = gzip.decompress(image.blobs[document["layers"][0]["digest"]])
    config = json.loads(image.blobs[document["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [sha256(layer)]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        member = archive.extractfile("etc/motd")
        assert member is not None
        assert member.read() == b"hello\n"


def test_an_empty_layer_is_a_valid_archive() -> None:
    packed, diff_id = make_layer({})
    assert diff_id == sha256(gzip.decompress(packed))


def test_the_demo_shows_both_manifest_types_and_an_index() -> None:
    assert {image.media_type for image in demo_images()} == {OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX}


def test_the_platforms_of_an_index_differ() -> None:
    index = make_index("team/app", "1", ["linux/amd64", "linux/arm64", "linux/s390x"])
    assert len({child.digest for child in index.platforms}) == 3


def test_an_artifact_names_its_subject() -> None:
    subject = make_image("team/app", "1")
    artifact = make_artifact(subject, "application/spdx+json")
    assert json.loads(artifact.manifest)["subject"]["digest"] == subject.digest
