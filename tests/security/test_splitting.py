"""Header values of an upstream that hold line breaks and worse: no header and no answer of ours comes of them."""

import pytest

from proxy.testbed.images import Image, sha256
from tests.fakes.changes import Reply, SetHeader
from tests.fakes.client import Got, NodeClient
from tests.fakes.interrupts import Raw
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

BREAKS = {
    "cr": b"\rX-Evil: 1",
    "lf": b"\nX-Evil: 1",
    "fold": b"\r\n X-Evil: 1",
    "nul": b"\x00X-Evil: 1",
    "two": b"\r\n\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n",
    "escaped": b"%0d%0aX-Evil: 1",
}
REFERRERS = f"/v2/{NAME}/referrers/sha256:{'a' * 64}?ns={REG}"
TAGS = f"/v2/{NAME}/tags/list?ns={REG}"
LAYER = blob(sha256(b"x" * 20))
HEADERS = {
    b"Docker-Content-Digest": manifest(),
    b"Content-Type": manifest(),
    b"Link": TAGS,
    b"Location": LAYER,
    b"WWW-Authenticate": manifest(),
    b"OCI-Filters-Applied": REFERRERS,
    b"ETag": LAYER,
    b"Content-Range": LAYER,
    b"Retry-After": manifest(),  # the last one: it may have the registry left alone for a while
}
STATUSES = {b"Location": b"307 Away", b"WWW-Authenticate": b"401 No", b"Retry-After": b"503 Later"}
KNOWN = {
    "docker-distribution-api-version",
    "server",
    "content-type",
    "content-length",
    "docker-content-digest",
    "etag",
    "x-cache",
    "date",
    "accept-ranges",
    "content-range",
    "oci-namespace",
    "oci-filters-applied",
    "link",
    "retry-after",
    "age",
}


def is_clean(got: Got) -> bool:
    """Whether an answer has headers of ours only, each of them plain."""
    names = [name.lower() for name, _ in got.lines]
    values = "".join(value for _, value in got.lines)
    return set(names) <= KNOWN and values.isprintable() and values.isascii() and "X-Evil" not in values


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("names", [tuple(HEADERS)[:3], tuple(HEADERS)[3:6], tuple(HEADERS)[6:]], ids=["a", "b", "c"])
async def test_no_header_of_ours_comes_of_a_value_of_theirs(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, names: tuple[bytes, ...], kind: str
) -> None:
    bodies = {manifest(): image.manifest, LAYER: b"x" * 20}
    for name in names:
        body = bodies.get(HEADERS[name], b'{"manifests": [], "tags": []}')
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n" % (STATUSES.get(name, b"200 OK"), len(body))
        plain.behave()
        plain.script(on(), Raw((head + name + b": x" + BREAKS[kind] + b"\r\n\r\n" + body,)))
        got = await near_plain.get(HEADERS[name])
        assert is_clean(got), got.lines
        assert "X-Evil" not in got.reason


@pytest.mark.parametrize("kind", BREAKS)
async def test_nor_of_the_reason_phrase_and_of_the_body_of_an_error(
    near_plain: NodeClient, plain: ScriptedRegistry, kind: str
) -> None:
    for status in (b"403", b"404", b"500"):
        body = b'{"errors": [{"code": "X", "message": "x' + BREAKS[kind] + b'<script>"}]}'
        head = b"HTTP/1.1 %s No%s\r\nContent-Length: %d\r\n\r\n" % (status, BREAKS[kind], len(body))
        plain.behave()
        plain.script(on(), Raw((head + body,)))
        got = await near_plain.get(manifest())
        assert is_clean(got), got.lines
        assert b"<script>" not in got.body
        assert "X-Evil" not in got.reason


@pytest.mark.parametrize(
    "name", ["X-Accel-Redirect", "X-Sendfile", "Transfer-Encoding-X", "Upgrade", "Trailer", "Strict-Transport-Security"]
)
async def test_headers_that_steer_servers_in_between_are_not_passed_on(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, name: str
) -> None:
    plain.script(on(), SetHeader(name, "/etc/passwd"))
    for target in (manifest(), TAGS, blob(layer_of(image)[0])):
        got = await near_plain.get(target)
        assert got.status == 200
        assert is_clean(got)


@pytest.mark.parametrize(
    "query", ["%0d%0aX-Evil:1", "%0aX-Evil:1", "last=%0d%0aX-Evil:1", "last=%E2%80%A8", "last=%00", "n=1%0d%0a"]
)
async def test_nor_of_what_a_client_sends(near_plain: NodeClient, plain: ScriptedRegistry, query: str) -> None:
    plain.script(on(kind="tags"), Reply(200, document={"tags": ["1", "2"]}))
    got = await near_plain.get(f"/v2/{NAME}/tags/list?n=1&{query}&ns={REG}")
    assert got.status in {200, 400}
    assert is_clean(got), got.lines
