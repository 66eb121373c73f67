"""Token servers that answer in odd ways, or not at all."""

import asyncio
from typing import Any

import pytest

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.changes import Redirect, Reply, TokenFields
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import authority, blob, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry


@pytest.mark.parametrize(
    "change",
    [
        TokenFields(drop=("token",)),
        TokenFields(drop=("access_token",)),
        TokenFields(put={"token": "", "refresh_token": "x", "issued_at": "2999-01-01T00:00:00Z"}),
        TokenFields(drop=("expires_in",)),
        *(TokenFields(put={"expires_in": life}) for life in (None, 0, -5, "300", "soon", 1e300, True, [1])),
    ],
    ids=str,
)
async def test_tokens_in_every_form_are_used(
    node: NodeClient, registry: ScriptedRegistry, image: Image, change: TokenFields
) -> None:
    registry.script(on(kind="token"), change)
    assert (await node.get(manifest())).body == image.manifest
    for digest, data in image.blobs.items():
        assert (await node.get(blob(digest))).body == data
    assert len(registry.record.tokens) == 1


UNUSABLE = {
    "neither field": TokenFields(drop=("token", "access_token")),
    "a number": TokenFields(put={"token": 5, "access_token": 5}),
    "a line break": TokenFields(put={"token": "canary\r\nX: y", "access_token": "canary\r\nX: y"}),
    "html": Reply(200, b"<html>log in</html>", content_type="text/html"),
    "an array": Reply(200, document=["canary"]),
    "no body": Reply(200, b""),
    "not UTF-8": Reply(200, b'{"token": "\xff"}'),
    "deep": Reply(200, b"[" * 60_000),
    "huge": Reply(200, b'{"token": "' + b"x" * 10_000_000 + b'"}'),
    "created": Reply(201, document={"token": "canary"}),
    "redirect": Redirect("http://127.0.0.1:1/token"),
    "cut": Cut(5),
    "no answer": Cut(BEFORE_HEADERS),
    **{f"{status}": Reply(status) for status in (429, 500, 502, 503, 504)},
}


@pytest.mark.parametrize("fault", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_no_usable_token_is_503(node: NodeClient, registry: ScriptedRegistry, method: str, fault: Any) -> None:
    registry.script(on(kind="token"), fault)
    got = await node.send(method, manifest())
    assert got.status == 503
    assert f"token server {authority(registry.url)}" in got.reason
    assert 1 <= len(registry.record.tokens) <= 6  # at most three rounds, and one more try each on a lost connection
    assert {entry.credential for entry in registry.record.of("manifest")} == {"anonymous"}


@pytest.mark.parametrize("fault", [Reply(500), Reply(503), Reply(429), Cut(BEFORE_HEADERS)], ids=str)
async def test_trouble_that_passes_is_waited_for(
    node: NodeClient, registry: ScriptedRegistry, image: Image, fault: Any
) -> None:
    registry.script(on(kind="token").nth(1), fault)
    assert (await node.get(manifest())).body == image.manifest
    assert len(registry.record.tokens) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 422])
async def test_a_refused_token_is_403(node: NodeClient, registry: ScriptedRegistry, status: int) -> None:
    registry.script(on(kind="token"), Reply(status))
    for got in (await node.head(manifest()), await node.get(manifest())):
        assert got.status == 403
        assert f"token server {authority(registry.url)} answered {status}" in got.reason


@pytest.mark.short_budgets
async def test_a_token_server_that_stalls_is_504_and_named(
    node: NodeClient, registry: ScriptedRegistry, never: Stall
) -> None:
    registry.script(on(kind="token"), never)
    for target in (manifest(), manifest("other")):
        got = await node.get(target)
        assert got.status == 504
        assert got.reason.startswith(f"no token for {authority(registry.url)} came in time: its token server")
    assert len(registry.record.tokens) == 1  # the second request joins the first one's


@pytest.mark.short_budgets
async def test_a_slow_token_server_serves_who_comes_again(
    node: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    """The budget ends the wait of the node, not the request for the token: the next try gets what came of it."""
    until = asyncio.Event()
    registry.script(on(kind="token").nth(1), Stall(BEFORE_HEADERS, until))
    assert (await node.head(manifest())).status == 504
    until.set()
    assert (await node.get(manifest())).body == image.manifest
    assert len(registry.record.tokens) == 1


async def test_a_retry_after_of_the_token_server_is_reported_and_kept(
    node: NodeClient, registry: ScriptedRegistry
) -> None:
    registry.script(on(kind="token"), Reply(429, headers={"Retry-After": "120"}))
    for _ in range(3):
        got = await node.get(manifest())
        assert got.status == 503
        assert 100 <= int(got.header("Retry-After") or 0) <= 120
    assert len(registry.record.tokens) == 1


async def test_an_unknown_repository_of_a_strict_server_is_403_not_404(image: Image) -> None:
    """The token server's 404 tells of the scope: a 404 to the node would send it to the registry itself."""
    async with (
        ScriptedRegistry([image], Rules(refuse=404)) as registry,
        started(settings([registry.url])) as proxy,
    ):
        got = await proxy.node.get(manifest(name="library/unknown"))
        assert (got.status, "answered 404" in got.reason) == (403, True)


async def test_a_refusal_of_one_repository_rests_nobody_else(
    node: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    assert (await node.get(manifest(name="library/unknown"))).status == 403
    assert (await node.get(manifest())).body == image.manifest
    assert registry.record.of("manifest")[-1].status == 200
