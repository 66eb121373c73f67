"""Several endpoints: which get the request, in which order, and what their responses mean together."""

import socket
from typing import Any

import pytest

from proxy.testbed.images import Image
from tests.fakes.changes import FlipByte, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry


def closed_port() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


async def test_a_refused_connection_is_503() -> None:
    url = closed_port()
    async with started(settings([url])) as proxy:
        for method in ("HEAD", "GET"):
            got = await proxy.node.send(method, manifest())
            assert (got.status, "cannot be reached" in got.reason) == (503, True)


async def test_a_name_that_does_not_resolve_is_503() -> None:
    async with started(settings(["http://nowhere.invalid:5000"])) as proxy:
        got = await proxy.node.get(manifest())
    assert (got.status, "cannot be resolved" in got.reason) == (503, True)


async def test_a_tls_endpoint_that_does_not_speak_tls_is_503(plain: ScriptedRegistry) -> None:
    async with started(settings([plain.url.replace("http://", "https://")])) as proxy:
        got = await proxy.node.get(manifest())
    assert (got.status, "TLS" in got.reason) == (503, True)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_when_the_first_is_down_the_second_serves(second: ScriptedRegistry, image: Image, method: str) -> None:
    async with started(settings([closed_port(), second.url])) as proxy:
        for _ in range(2):
            assert (await proxy.node.send(method, manifest())).header("Docker-Content-Digest") == image.digest
    assert len(second.record.all()) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Reply(404),
        Reply(403),
        Reply(401),
        Reply(500),
        Reply(429, headers={"Retry-After": "600"}),
        Reply(200, b"<html>", content_type="text/html"),
        FlipByte(),
        Cut(BEFORE_HEADERS),
        Cut(10),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_whatever_the_first_does_wrong_the_second_serves(
    near_both: NodeClient, plain: ScriptedRegistry, second: ScriptedRegistry, image: Image, kind: str, fault: Any
) -> None:
    plain.script(on("GET"), fault)
    digest, data = layer_of(image)
    got = await near_both.get(manifest() if kind == "manifest" else blob(digest))
    assert (got.status, got.body) == (200, image.manifest if kind == "manifest" else data)
    assert len(second.record.all()) == 1


@pytest.mark.short_budgets
@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_when_the_first_stalls_the_second_has_its_share_of_the_time(
    near_both: NodeClient, plain: ScriptedRegistry, second: ScriptedRegistry, image: Image, never: Stall, kind: str
) -> None:
    plain.script(on(), never)
    target = manifest() if kind == "manifest" else blob(layer_of(image)[0])
    assert (await near_both.get(target)).status == 200
    # What failed lately goes to the end: nobody waits for it again.
    assert (await near_both.get(target)).status == 200
    assert (len(plain.record.all()), len(second.record.all())) == (1, 2)


@pytest.mark.parametrize(
    ("first", "then", "status", "code"),
    [
        (404, 404, 404, "MANIFEST_UNKNOWN"),
        (404, 500, 503, "UNAVAILABLE"),
        (500, 404, 503, "UNAVAILABLE"),
        (403, 404, 403, "DENIED"),
        (404, 403, 403, "DENIED"),
        (403, 500, 503, "UNAVAILABLE"),
        (404, 200, 502, "MANIFEST_INVALID"),
        (403, 200, 502, "MANIFEST_INVALID"),
        (429, 404, 503, "TOOMANYREQUESTS"),
        (401, 401, 403, "DENIED"),
        (400, 404, 403, "DENIED"),
        (406, 406, 403, "DENIED"),
        (410, 404, 404, "MANIFEST_UNKNOWN"),
    ],
)
async def test_what_two_answers_mean_together(
    near_both: NodeClient,
    plain: ScriptedRegistry,
    second: ScriptedRegistry,
    first: int,
    then: int,
    status: int,
    code: str,
) -> None:
    plain.script(on(), Reply(first, b"x"))
    second.script(on(), Reply(then, b"x"))
    got = await near_both.get(manifest())
    assert (got.status, got.code) == (status, code)


async def test_an_endpoint_that_is_down_and_one_that_does_not_have_it_is_503(second: ScriptedRegistry) -> None:
    async with started(settings([closed_port(), second.url])) as proxy:
        got = await proxy.node.get(manifest("none"))
    assert (got.status, got.code) == (503, "UNAVAILABLE")


@pytest.mark.short_budgets
async def test_both_stall_and_the_answer_comes_within_the_budget(
    near_both: NodeClient, plain: ScriptedRegistry, second: ScriptedRegistry, never: Stall
) -> None:
    plain.script(on(), never)
    second.script(on(), never)
    assert (await near_both.get(manifest())).status == 504
    assert (len(plain.record.all()), len(second.record.all())) == (1, 1)


async def test_a_wrong_manifest_of_the_first_endpoint_is_not_trusted_by_head_either(
    near_both: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    plain.script(on(), Reply(200, b"<html>", content_type="text/html"))
    got = await near_both.head(manifest())
    assert (got.status, got.header("Docker-Content-Digest")) == (200, image.digest)
