import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.descriptor import (
    BLOB,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_SIGNED,
    Contents,
    Descriptor,
    media_type_of,
    parse_manifest,
)
from proxy.oci.errors import UpstreamInvalid
from proxy.oci.reference import Digest

IMAGE = {"schemaVersion": 2, "config": {}, "layers": []}
INDEX = {"schemaVersion": 2, "manifests": []}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize("declared", [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST, OCI_ARTIFACT])
def test_the_declared_type_wins_over_the_header(declared: str) -> None:
    document = {"schemaVersion": 2, "mediaType": declared}
    assert parse_manifest(encoded(document)).media_type("text/plain") == declared
    assert parse_manifest(encoded(document)).is_manifest


@pytest.mark.parametrize(
    ("document", "header", "expected"),
    [
        (IMAGE, None, OCI_MANIFEST),
        (INDEX, None, OCI_INDEX),
        (IMAGE, DOCKER_MANIFEST, DOCKER_MANIFEST),
        (INDEX, f"{DOCKER_LIST}; charset=utf-8", DOCKER_LIST),
        (IMAGE, "application/json", OCI_MANIFEST),
        (IMAGE | {"mediaType": 7}, None, OCI_MANIFEST),
    ],
)
def test_an_undeclared_type_is_that_of_the_header_or_the_shape(
    document: object, header: str | None, expected: str
) -> None:
    assert parse_manifest(encoded(document)).media_type(header) == expected
    assert parse_manifest(b" \r\n\t" + encoded(document)).media_type(header) == expected


@pytest.mark.parametrize(
    "document",
    [
        IMAGE | INDEX,
        INDEX | {"config": {}},
        {"schemaVersion": 1, "fsLayers": []},
        IMAGE | {"fsLayers": []},
        {},
        [],
        {"schemaVersion": 2},
        {"schemaVersion": 2, "layers": "x"},
    ],
)
def test_what_is_no_clear_manifest_is_refused(document: object) -> None:
    with pytest.raises(UpstreamInvalid):
        parse_manifest(encoded(document)).media_type(None)


def test_schema_1_is_refused_by_its_header_with_advice() -> None:
    with pytest.raises(UpstreamInvalid, match="push the image again"):
        parse_manifest(encoded(IMAGE)).media_type(SCHEMA1_SIGNED)


def test_a_web_page_in_place_of_a_manifest_is_named_by_its_type() -> None:
    with pytest.raises(UpstreamInvalid, match="text/html"):
        parse_manifest(b"<html>").media_type("text/html; charset=utf-8")


@pytest.mark.parametrize(
    "content",
    [
        encoded(IMAGE),
        encoded(INDEX),
        encoded({"schemaVersion": 1, "fsLayers": []}),
        # what Go, and so containerd, reads as a manifest all the same
        encoded({"SchemaVersion": 2, "manifests": []}),
        encoded({"mediatype": OCI_INDEX}),
        encoded(IMAGE)[:-1] + b', "n": ' + b"1" * 5000 + b"}",
        encoded(IMAGE)[:-1] + b', "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_manifests_are_recognized_by_their_bytes(content: bytes) -> None:
    assert parse_manifest(content).is_manifest


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b\x08", b"{", b"[]", b"{}", encoded({"architecture": "amd64", "rootfs": {}})],
)
def test_configurations_and_layers_are_no_manifests(content: bytes) -> None:
    assert not parse_manifest(content).is_manifest


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"{" + tail), st.text(max_size=20))
def test_no_bytes_raise_anything_but_upstream_invalid(content: bytes, header: str) -> None:
    assert parse_manifest(content).is_manifest in {True, False}
    with pytest.raises(UpstreamInvalid):
        parse_manifest(content).media_type(header)


@pytest.mark.parametrize(("header", "expected"), [(None, ""), ("", ""), (f" {BLOB.upper()} ; a=b", BLOB)])
def test_media_type_of_a_header(header: str | None, expected: str) -> None:
    assert media_type_of(header) == expected


ONE, TWO, THREE = (Digest.of(str(number).encode()) for number in range(3))


def named(digest: Digest, **more: object) -> dict[str, object]:
    return {"mediaType": "a/b", "digest": str(digest), "size": 1, **more}


def holding(*digests: Digest) -> Contents:
    return Contents(blobs=tuple(Descriptor("a/b", digest, 1) for digest in digests))


def listing(*digests: Digest) -> Contents:
    return Contents(manifests=tuple(Descriptor("a/b", digest, 1) for digest in digests))


ALL = {"config": named(ONE), "layers": [named(TWO)], "blobs": [named(THREE)]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({**IMAGE, "mediaType": OCI_MANIFEST, **ALL}, holding(ONE, TWO)),
        ({**IMAGE, "mediaType": DOCKER_MANIFEST, **ALL}, holding(ONE, TWO)),
        ({**IMAGE, **ALL}, holding(ONE, TWO)),
        ({**INDEX, "mediaType": OCI_INDEX, "manifests": [named(ONE)], "blobs": [named(TWO)]}, listing(ONE)),
        ({**INDEX, "mediaType": DOCKER_LIST, "manifests": [named(ONE)]}, listing(ONE)),
        ({**INDEX, "manifests": [named(ONE), {"digest": "x"}, {}]}, listing(ONE)),
        ({**INDEX, "manifests": [named(ONE), 5]}, Contents()),
        ({"mediaType": OCI_ARTIFACT, **ALL}, holding(THREE)),
        ({**IMAGE, "mediaType": "application/vnd.example+json", **ALL}, Contents()),
        ({**IMAGE, "mediaType": "", **ALL}, holding(ONE, TWO)),
        ({**IMAGE, "mediaType": 7, **ALL}, Contents()),
        ({**IMAGE, "config": [named(ONE)], "layers": [named(TWO)]}, Contents()),
        ({"mediaType": OCI_MANIFEST, "config": named(ONE), "layers": {"0": named(TWO)}}, Contents()),
        ({"mediaType": OCI_ARTIFACT, "blobs": named(ONE)}, Contents()),
        ({"mediaType": OCI_INDEX, "manifests": named(ONE)}, Contents()),
        ({"mediaType": "application/vnd.example+json", "layers": [named(ONE)]}, Contents()),
        ({**IMAGE, "layers": [named(ONE, urls=["https://a.example"]), named(TWO)]}, holding(TWO)),
        ({**IMAGE, "layers": [named(ONE, urls=[])]}, holding(ONE)),
        ({**IMAGE, "layers": [named(ONE, annotations={"a": "1", "A": "2"})]}, holding(ONE)),
        ({**IMAGE, "layers": [named(ONE)], "annotations": {"a": "1", "A": "2"}}, holding(ONE)),
        ({**IMAGE, "layers": [named(ONE)], "Layers": []}, Contents()),
        ({**IMAGE, "layers": [named(ONE, x=1, X=2)]}, Contents()),
        ({**IMAGE, "layers": [named(ONE)], "manifests": []}, Contents()),
        ({**INDEX, "MediaType": OCI_INDEX, "manifests": [named(ONE)]}, Contents()),
    ],
)
def test_only_the_fields_of_the_media_type_hold_content(document: object, expected: Contents) -> None:
    assert parse_manifest(encoded(document)).contents == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"schemaVersion": 2, "config": %s, "layers": [], "layers": [%s]}',
        '{"schemaVersion": 2, "config": %s, "layers": [%s], "annotations": {"a": "1", "\\u0061": "2"}}',
        '{"schemaVersion": 2, "config": %s, "layers": [{"x": 1, "x": 2}, %s]}',
        '{"schemaVersion": 2, "config": %s, "layers": [%s], "note": [[{"x": {"y": 1, "y": 1}}]]}',
    ],
)
def test_a_manifest_with_a_key_that_stands_twice_holds_nothing(text: str) -> None:
    content = (text % (json.dumps(named(ONE)), json.dumps(named(TWO)))).encode()
    assert parse_manifest(content).is_manifest
    assert parse_manifest(content).contents == Contents()


def test_bytes_that_are_no_utf_8_do_not_make_a_manifest_a_blob() -> None:
    """Go reads U+FFFD in their place: containerd takes such bytes as a manifest."""
    assert parse_manifest(encoded(IMAGE)[:-1] + b', "note": "\xff"}').is_manifest


@given(
    st.recursive(
        st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["config", "layers", "digest", "manifests", "blobs", "Layers", "mediaType"]), inner
            )
        ),
    )
)
def test_no_document_raises(document: object) -> None:
    held = parse_manifest(encoded(document)).contents
    assert isinstance(held, Contents)
