import asyncio
from collections.abc import Callable
from unittest import mock

import pytest
from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.oci.errors import DigestInvalid, NameInvalid, Unsupported
from proxy.oci.request import Operation
from proxy.server.app import TARGET_LENGTH, TargetCache
from proxy.server.listener.framing import NodeRequest

TARGET = "/v2/library/app/manifests/1?ns=docker.io"
Make = Callable[..., NodeRequest]


@pytest.fixture
async def made() -> Make:
    loop = asyncio.get_running_loop()

    def make(target: str, method: str = "GET", *, body: bool = False) -> NodeRequest:
        headers = CIMultiDictProxy(CIMultiDict[str]())
        url = URL.build(path=target.partition("?")[0], query_string=target.partition("?")[2], encoded=True)
        raw = RawRequestMessage(method, target, HttpVersion11, headers, (), False, None, False, False, url)
        protocol = mock.Mock(ssl_context=None, peername=None, sockname=None)
        payload = StreamReader(protocol, 1024, loop=loop) if body else EMPTY_PAYLOAD
        return NodeRequest(raw, payload, protocol, mock.Mock(), mock.Mock(), loop)

    return make


def test_the_same_target_means_the_same_again(made: Make) -> None:
    targets = TargetCache()
    first, again = targets.of(made(TARGET)), targets.of(made(TARGET))
    assert first == again
    assert (first.operation, first.name, str(first.reference)) == (Operation.MANIFEST, "library/app", "1")
    assert first.namespace == "docker.io"


def test_methods_and_queries_are_distinguished(made: Make) -> None:
    targets = TargetCache()
    assert [targets.of(made(TARGET, method)).head for method in ("GET", "HEAD", "GET")] == [False, True, False]
    assert targets.of(made(TARGET.replace("docker.io", "quay.io"))).namespace == "quay.io"
    with pytest.raises(Unsupported):
        targets.of(made(TARGET, "DELETE"))


@pytest.mark.security
def test_a_body_is_refused_with_a_target_that_is_known_too(made: Make) -> None:
    targets = TargetCache()
    targets.of(made(TARGET))
    with pytest.raises(NameInvalid, match="body"):
        targets.of(made(TARGET, body=True))


@pytest.mark.parametrize(("target", "error"), [("/v2/a/blobs/sha256:x", DigestInvalid), ("/x", NameInvalid)])
def test_what_is_refused_is_refused_again(made: Make, target: str, error: type[Exception]) -> None:
    targets = TargetCache()
    for _ in range(2):
        with pytest.raises(error):
            targets.of(made(target))
        assert targets.path(made(target)) == target


def test_the_path_is_decoded_whether_it_is_known_or_not(made: Make) -> None:
    targets, target = TargetCache(), "/v2/library%2Fapp/manifests/1?ns=docker.io"
    before = targets.path(made(target))
    targets.of(made(target))
    assert before == targets.path(made(target)) == made(target).path


def test_long_targets_are_read_all_the_same(made: Make) -> None:
    targets, name = TargetCache(), "a" * TARGET_LENGTH
    for _ in range(2):
        assert targets.of(made(f"/v2/{name}/manifests/1")).name == name


@pytest.mark.parametrize(("length", "is_kept"), [(TARGET_LENGTH, True), (TARGET_LENGTH + 1, False)])
def test_only_targets_that_are_not_long_are_kept(made: Make, length: int, is_kept: bool) -> None:
    targets, rest = TargetCache(), "/manifests/1"
    target = "/v2/".ljust(length - len(rest), "a") + rest
    first, again = targets.of(made(target)), targets.of(made(target))
    assert first == again
    assert (first is again) == is_kept
