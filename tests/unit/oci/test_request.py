import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import DigestInvalid, NameInvalid, Unsupported
from proxy.oci.reference import Digest, Tag
from proxy.oci.request import PATH_LIMIT, QUERY_LIMIT, Operation, parse_request

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("path", "operation", "name", "reference"),
    [
        ("/v2", Operation.PING, "", None),
        ("/v2/", Operation.PING, "", None),
        ("/v2/a/manifests/1.2", Operation.MANIFEST, "a", Tag("1.2")),
        (f"/v2/a/b/manifests/{DIGEST}", Operation.MANIFEST, "a/b", Digest.parse(DIGEST)),
        (f"/v2/icr.io/a/b/blobs/{DIGEST}", Operation.BLOB, "icr.io/a/b", Digest.parse(DIGEST)),
        (f"/v2/a/referrers/{DIGEST}", Operation.REFERRERS, "a", Digest.parse(DIGEST)),
        ("/v2/a/tags/list", Operation.TAGS, "a", None),
        (f"/v2/a/blobs/{DIGEST.replace(':', '%3A')}", Operation.BLOB, "a", Digest.parse(DIGEST)),
        ("/v2/a%2Fb/manifests/1", Operation.MANIFEST, "a/b", Tag("1")),
        ("/v2/manifests/manifests/blobs", Operation.MANIFEST, "manifests", Tag("blobs")),
        ("/v2/localhost:5000/a/manifests/1", Operation.MANIFEST, "localhost:5000/a", Tag("1")),
    ],
)
def test_pulls_are_read(path: str, operation: Operation, name: str, reference: Tag | Digest | None) -> None:
    request = parse_request("GET", path, [])
    assert (request.operation, request.name, request.reference) == (operation, name, reference)
    assert not request.head
    assert parse_request("HEAD", path, []).head


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "", "GET "])
@pytest.mark.parametrize("path", ["/v2/", "/v2/a/manifests/1", "/v2/a/blobs/uploads/", "/"])
def test_every_other_method_is_unsupported(method: str, path: str) -> None:
    with pytest.raises(Unsupported):
        parse_request(method, path, [])


@pytest.mark.parametrize("path", ["/v2/a/blobs/uploads", "/v2/a/blobs/uploads/1-2", "/v2/_catalog"])
def test_what_is_no_pull_is_unsupported(path: str) -> None:
    with pytest.raises(Unsupported):
        parse_request("GET", path, [])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/",
        "/v2x",
        "/V2/",
        "/v2//manifests/",
        "/v2/a",
        "/v2/manifests/1",
        "/v2/a/manifests/",
        "/v2/a/manifests/..",
        "/v2/a/manifests/1%00",
        "/v2/a/manifests/1%0d%0aX: y",
        "/v2/a/manifests/%252e%252e",
        "/v2/a/manifests/%c0%ae",
        "/v2/a/manifests/%",
        "/v2/a/manifests/ä",
        "/v2/a/blobs/sha256:../../etc/passwd",
        "/v2/a/manifests/1\\2",
        "/v2/" + "a" * PATH_LIMIT,
    ],
)
def test_malformed_paths_are_name_invalid(path: str) -> None:
    with pytest.raises(NameInvalid):
        parse_request("GET", path, [])


@pytest.mark.parametrize(
    "reference",
    [
        "latest",
        DIGEST[:-1],
        DIGEST + "0",
        "sha256:" + "0A" * 32,
        "md5:" + "0" * 32,
        "sha1:" + "0" * 40,
        "new:" + "0" * 64,
    ],
)
@pytest.mark.parametrize("kind", ["blobs", "referrers"])
def test_blobs_and_referrers_take_checked_digests_only(kind: str, reference: str) -> None:
    with pytest.raises(DigestInvalid):
        parse_request("GET", f"/v2/a/{kind}/{reference}", [])


def test_ns_is_taken_out_of_the_query() -> None:
    request = parse_request("GET", "/v2/a/tags/list", [("n", "5"), ("ns", "icr.io"), ("last", "x")])
    assert (request.namespace, request.query) == ("icr.io", (("n", "5"), ("last", "x")))


@pytest.mark.parametrize(
    "query",
    [
        [("ns", "a"), ("ns", "b")],
        [("ns", "a"), ("ns", "a")],
        [("ns", "a\x00")],
        [("n", "\r\n")],
        [("n", "ä")],
        [("last", "x" * QUERY_LIMIT)],
    ],
)
def test_bad_queries_are_name_invalid(query: list[tuple[str, str]]) -> None:
    with pytest.raises(NameInvalid):
        parse_request("GET", "/v2/a/tags/list", query)


def test_a_request_without_a_digest_has_none_to_give() -> None:
    with pytest.raises(TypeError):
        _ = parse_request("GET", "/v2/a/manifests/1", []).digest
    assert str(parse_request("GET", f"/v2/a/blobs/{DIGEST}", []).digest) == DIGEST


PATHS = st.text(max_size=60) | st.lists(
    st.sampled_from(["/v2", "/", "a", "manifests", "blobs", "tags/list", "%2e", "%", "%00", "..", ":", DIGEST, "%ff"])
).map("".join)


@given(st.sampled_from(["GET", "HEAD"]), PATHS, st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9))))
def test_no_request_raises_anything_but_its_own_errors(method: str, path: str, query: list[tuple[str, str]]) -> None:
    with contextlib.suppress(Unsupported, NameInvalid, DigestInvalid):
        request = parse_request(method, path, query)
        assert request.operation in Operation
        assert "%" not in request.name
