import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import DigestInvalid, NameInvalid
from proxy.oci.reference import (
    NAME_LIMIT,
    Digest,
    ImageReference,
    Tag,
    canonical_repository,
    check_repository,
    parse_tag_or_digest,
    split_registry,
)

SHA256 = "sha256:" + "0a" * 32
SHA512 = "sha512:" + "0a" * 64

COMPONENTS = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
REPOSITORIES = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True)
REGISTRIES = st.from_regex(
    r"([a-z0-9]{1,8}\.[a-z]{2,4}(:[1-9][0-9]{0,3})?|localhost(:[1-9][0-9]{0,3})?)", fullmatch=True
)
DIGESTS = st.binary(max_size=4).flatmap(lambda data: st.sampled_from([Digest.of(data), Digest.of(data, "sha512")]))
IMAGES = st.builds(
    lambda registry, name, reference: ImageReference(registry, canonical_repository(registry, name), reference),
    REGISTRIES | st.just("docker.io"),
    REPOSITORIES,
    TAGS.map(Tag) | DIGESTS,
)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "reference"),
    [
        ("alpine", "docker.io", "library/alpine", "latest"),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20"),
        ("rancher/k3s", "docker.io", "rancher/k3s", "latest"),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest"),
        ("reg.example/a/b:1", "reg.example", "a/b", "1"),
        ("reg.example/a", "reg.example", "a", "latest"),
        ("reg:5000/a", "reg", "a", "latest"),
        ("localhost/a", "localhost", "a", "latest"),
        (f"reg.example/a@{SHA256}", "reg.example", "a", SHA256),
        (f"reg.example/a:1@{SHA512}", "reg.example", "a", SHA512),
    ],
)
def test_image_names_are_filled_in_as_docker_does(text: str, registry: str, repository: str, reference: str) -> None:
    image = ImageReference.parse(text)
    assert image.registry == (f"{registry}:5000" if registry == "reg" else registry)
    assert (image.repository, str(image.reference)) == (repository, reference)


@given(IMAGES)
def test_an_image_survives_its_name(image: ImageReference) -> None:
    assert ImageReference.parse(str(image)) == image


@given(st.text(max_size=40) | st.text("aA0.:/@-_", max_size=40))
def test_no_name_raises_anything_but_its_own_errors(text: str) -> None:
    with contextlib.suppress(NameInvalid, DigestInvalid):
        image = ImageReference.parse(text)
        assert ImageReference.parse(str(image)) == image


@given(DIGESTS)
def test_a_digest_survives_its_text(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest
    assert parse_tag_or_digest(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        SHA256.upper(),
        SHA256[:-1],
        SHA256 + "0",
        SHA256 + "\n",
        " " + SHA256,
        "sha256:" + "0g" * 32,
        "sha256:../../../etc/passwd",
        "md5:" + "0" * 32,
        "sha1:" + "0" * 40,
        "sha512:" + "0" * 64,
        "sha256:" + "٣" * 64,
        "sha256+b64u:" + "0" * 64,
    ],
)
def test_a_digest_that_we_cannot_check_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


ALMOST = st.builds("sha{}:{}{}".format, st.sampled_from([256, 512]), st.just("0a" * 31), st.text("0af gF", max_size=4))


@given(st.text(max_size=80) | ALMOST)
def test_no_digest_raises_anything_but_digest_invalid(text: str) -> None:
    with contextlib.suppress(DigestInvalid):
        assert str(Digest.parse(text)) == text


def test_a_digest_is_that_of_the_bytes() -> None:
    digest = Digest.of(b"layer")
    assert digest.hex == hashlib.sha256(b"layer").hexdigest()
    hasher = Digest.parse(SHA512).hasher()
    hasher.update(b"layer")
    assert hasher.hexdigest() == hashlib.sha512(b"layer").hexdigest()


@given(TAGS)
def test_a_tag_survives_its_text(text: str) -> None:
    assert str(Tag.parse(text)) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "a" * 129, "a/b", "a b", "ä", "a\n", "..", "%2e"])
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        parse_tag_or_digest(text)


@given(REPOSITORIES)
def test_repositories_of_the_specification_are_taken(name: str) -> None:
    assert check_repository(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a_.b",
        "a___b",
        "-a",
        "a-",
        "a b",
        "a\x00",
        "a\n",
        "a\\b",
        "ä",
        "a%2fb",
        "a:b",
        "a" * (NAME_LIMIT + 1),
    ],
)
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        check_repository(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b", (None, "a/b")),
        ("a.b/c", ("a.b", "c")),
        ("a:1/c", ("a:1", "c")),
        ("localhost/c", ("localhost", "c")),
        ("a.b", (None, "a.b")),
    ],
)
def test_a_registry_is_recognized_by_its_dot_or_colon(name: str, expected: tuple[str | None, str]) -> None:
    assert split_registry(name) == expected
