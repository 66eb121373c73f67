"""Parsers of what clients and registries send: whatever comes, they raise what they say and keep their bounds."""

import json
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, urlsplit

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.oci.byterange import ByteRange, Span
from proxy.oci.challenge import parse_challenges
from proxy.oci.descriptor import MANIFEST_TYPES, parse_manifest
from proxy.oci.errors import DigestInvalid, NameInvalid, RangeInvalid, Unsupported, UpstreamInvalid
from proxy.oci.reference import Digest
from proxy.oci.request import NAMESPACE, PATH_LIMIT, QUERY_LIMIT, parse_request
from proxy.pull.listing import _linked, link_header

FEW, MANY = 150, 2000
"""Examples in a usual run, and in one round of a long one."""
SEED_BITS = 32
DIGESTS = [f"sha256:{'0' * 64}", f"sha512:{'a' * 128}", f"sha256:{'A' * 64}", "sha256:0", "md5:00"]

anything = st.text(max_size=200)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
names = st.lists(
    st.one_of(st.sampled_from(["library", "app", "..", "v2", "manifests", "blobs", "tags"]), printable), max_size=5
)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts in a row."""
    return st.tuples(*parts).map("".join)


paths = st.one_of(
    anything,
    st.tuples(
        names.map("/".join),
        st.sampled_from(["manifests", "blobs", "referrers", "tags", "blobs/uploads", "_catalog", ""]),
        st.one_of(st.sampled_from([*DIGESTS, "list", "latest"]), anything),
    ).map(lambda parts: "/v2/" + "/".join(parts)),
    printable.map(lambda text: "/v2/" + quote(text)),
)


@given(
    st.sampled_from(["GET", "HEAD", "PUT", ""]),
    paths,
    st.lists(st.tuples(st.sampled_from([NAMESPACE, "n", "last"]), anything), max_size=4),
)
def request(method: str, path: str, query: list[tuple[str, str]]) -> None:
    """A request is refused, or has a name, a reference and a query that are plain ASCII within the bounds."""
    try:
        parsed_request = parse_request(method, path, query)
    except (NameInvalid, DigestInvalid, Unsupported):
        return
    assert len(path) <= PATH_LIMIT
    assert sum(len(name) + len(value) for name, value in query) <= QUERY_LIMIT
    parts = (
        parsed_request.name
        + str(parsed_request.reference)
        + (parsed_request.namespace or "")
        + "".join(map("".join, parsed_request.query))
    )
    assert re.fullmatch(r"[ -~]*", parts)
    assert NAMESPACE not in dict(parsed_request.query)
    if parsed_request.reference is not None:
        again = parse_request(method, f"/v2/{quote(parsed_request.name)}/{parsed_request.suffix}", query)
        assert again == parsed_request


schemes = st.sampled_from(["Bearer", "basic", "NEGOTIATE", "Digest", "=", ",", "x y"])
parameters = joined(
    st.sampled_from(["realm", "service", "scope", "error", "Realm", "x"]),
    st.sampled_from(["=", " = ", '="', ""]),
    anything,
)
challenge_lines = st.one_of(
    anything, st.lists(st.one_of(schemes, parameters, st.just('"'), st.just("\\")), max_size=12).map(", ".join)
)


@given(st.lists(challenge_lines, max_size=6))
def challenge(lines: list[str]) -> None:
    """Nothing is raised, challenges have lower-case names, and what is found stood in the lines."""
    found = parse_challenges(lines)
    assert len(found) <= 16
    text = "\n".join(lines)
    for item in found:
        assert item.scheme == item.scheme.lower()
        assert item.scheme in text.lower()
        for name, value in item.parameters.items():
            assert name == name.lower()
            assert value in re.sub(r"\\(.)", r"\1", text) or value in text


@given(
    st.lists(st.tuples(printable, printable), max_size=5),
    printable.filter(lambda text: "?" not in text and "#" not in text),
)
def challenge_of_ours(pairs: list[tuple[str, str]], realm: str) -> None:
    """A quoted value is read back as it was."""
    escaped = re.sub(r'(["\\])', r"\\\1", realm)
    found = parse_challenges([f'Bearer realm="{escaped}",service="{len(pairs)}"'])
    assert [(item.realm, item.service) for item in found] == [(realm, str(len(pairs)))]


links = st.one_of(
    anything,
    joined(
        st.sampled_from(["<", " <", ""]),
        anything,
        st.sampled_from([">; rel=next", '>; title="a"; rel="next"', "> ;rel=prev", ">"]),
    ),
    joined(st.just("</v2/a/tags/list?"), printable, st.just('>; rel="next"')),
)


@given(st.lists(links, max_size=3))
def link(lines: list[str]) -> None:
    """Nothing is raised; what is taken over is plain, without a namespace of the upstream's."""
    query = _linked(CIMultiDictProxy(CIMultiDict([("Link", line) for line in lines])))
    assert query is None or all(name != NAMESPACE and re.fullmatch(r"[ -~]*", name + value) for name, value in query)


@given(
    st.lists(st.tuples(st.sampled_from(["n", "last"]), printable.filter(bool)), max_size=3),
    st.one_of(st.none(), printable),
)
def link_of_ours(query: list[tuple[str, str]], namespace: str | None) -> None:
    """Our own Link is read back as it was, and holds nothing that ends it."""
    line = link_header("/v2/library/app/tags/list", tuple(query), namespace)
    assert "\n" not in line
    assert line.count(">") == 1
    wanted = [*query, *([(NAMESPACE, namespace)] if namespace else [])]
    assert parse_qsl(urlsplit(line[1 : line.index(">")]).query) == wanted


numbers = st.one_of(st.integers(0, 30), st.integers(0, 10**20)).map(str)
ranges = st.one_of(
    anything,
    joined(
        st.sampled_from(["bytes=", "bytes= ", "Bytes=", "items="]),
        st.one_of(numbers, st.just("")),
        st.just("-"),
        st.one_of(numbers, st.just("")),
        st.sampled_from(["", " ", ",0-1"]),
    ),
)


@given(ranges, st.integers(0, 40))
def byte_range(header: str, size: int) -> None:
    """A range means the bytes that RFC 9110, section 14.1.2, gives it; anything else means the whole."""
    wanted = ByteRange.parse(header)
    match = re.fullmatch(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", header)
    is_one = (
        match is not None and (match[1] or match[2]) and not (match[1] and match[2] and int(match[2]) < int(match[1]))
    )
    assert (wanted is not None) == bool(is_one)
    if wanted is None or match is None:
        return
    assert ByteRange.parse(str(wanted)) == wanted
    content = range(size)
    if match[1]:
        meant = content[int(match[1]) : int(match[2]) + 1] if match[2] else content[int(match[1]) :]
    else:
        meant = content[-int(match[2]) :] if int(match[2]) else content[:0]
    try:
        span = wanted.resolve(size)
    except RangeInvalid:
        assert not meant
    else:
        assert content[span.first : span.last + 1] == meant
        assert Span.parse(str(span)) == span
        assert span.length == len(meant)


@given(
    st.one_of(
        anything,
        joined(st.just("bytes "), numbers, st.just("-"), numbers, st.just("/"), st.one_of(numbers, st.just("*"))),
    )
)
def content_range(header: str) -> None:
    """What is read makes sense, and is written as it was read."""
    span = Span.parse(header)
    if span is not None:
        assert 0 <= span.first <= span.last
        assert span.size is None or span.last < span.size
        assert Span.parse(str(span)) == span


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        printable,
        st.sampled_from([*DIGESTS, *sorted(MANIFEST_TYPES)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["digest", "size", "mediaType", "urls", "Digest"]), inner, max_size=4),
    ),
    max_leaves=12,
)
fields = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "blobs", "subject", "fsLayers", "Layers", "x"]
)
objects = st.lists(st.tuples(fields, values), max_size=6)
manifests = st.one_of(
    st.binary(max_size=300),
    objects.map(
        lambda pairs: (
            "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
        ).encode()
    ),
    st.integers(0, 3000).map(lambda depth: b'{"layers":' + b"[" * depth),
)


@given(manifests, st.one_of(st.none(), printable, st.sampled_from(sorted(MANIFEST_TYPES))))
def manifest(content: bytes, content_type: str | None) -> None:
    """Nothing is raised but UpstreamInvalid, and only what the bytes themselves name is held."""
    parsed = parse_manifest(content)
    try:
        found = parsed.media_type(content_type)
    except UpstreamInvalid:
        found = None
    assert found is None or found in MANIFEST_TYPES
    held = [*parsed.contents.blobs, *parsed.contents.manifests]
    assert not (held and parsed.contents.problem)
    for item in held:
        assert str(item.digest).encode() in content
        assert Digest.parse(str(item.digest)) == item.digest
        assert item.size >= 0


PARSERS: dict[str, tuple[Callable[[], None], ...]] = {
    "request": (request,),
    "challenge": (challenge, challenge_of_ours),
    "link": (link, link_of_ours),
    "range": (byte_range, content_range),
    "manifest": (manifest,),
}


@pytest.mark.parametrize("name", PARSERS)
def test_whatever_comes(name: str, pytestconfig: pytest.Config) -> None:
    seconds = pytestconfig.getoption("--fuzz-seconds", default=0.0)
    limits = settings(max_examples=MANY if seconds else FEW, database=None, deadline=None)
    properties = [limits(each) for each in PARSERS[name]]
    end, rounds = time.monotonic() + seconds, 0
    while rounds == 0 or time.monotonic() < end:
        for each in properties:
            hypothesis.seed(secrets.randbits(SEED_BITS))(each)()
        rounds += 1
    print(f"{name}: {rounds * len(properties) * limits.max_examples} examples")  # noqa: T201 - for `make fuzz`
    assert rounds > 0
