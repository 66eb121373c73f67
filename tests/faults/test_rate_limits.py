"""429 and 503 with a Retry-After: waited for here, never passed on; too long a one rests the endpoint."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from proxy.testbed.images import Image
from proxy.upstream.endpoints import LONGEST_REST
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient, read_head
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import (
    AT_ONCE,
    REG,
    UPSTREAM,
    MovedClock,
    blob,
    layer_of,
    manifest,
    metric,
    settings,
    started,
)
from tests.fakes.registry import ScriptedRegistry


@pytest.fixture
async def patient(plain: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node whose proxy has time to wait."""
    async with started(settings([plain.url], timeouts={"manifest": "30s", "blob": "30s"})) as proxy:
        yield proxy.node


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["1", "0", None, "nonsense", "date"])
@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_a_short_wait_is_waited_for(
    patient: NodeClient, plain: ScriptedRegistry, image: Image, kind: str, after: str | None, status: int
) -> None:
    headers = {} if after is None else {"Retry-After": in_seconds(1) if after == "date" else after}
    plain.script(on("GET").nth(1), Reply(status, headers=headers))
    got = await patient.get(manifest() if kind == "manifest" else blob(layer_of(image)[0]))
    assert got.status == 200
    assert [entry.status for entry in plain.record.all()] == [status, 200]


@pytest.mark.parametrize(
    ("after", "expected"), [("30", 30), ("3600", 3600), ("99999999999999999999", 86400), ("date", 600)]
)
@pytest.mark.parametrize(("status", "code"), [(429, "TOOMANYREQUESTS"), (503, "UNAVAILABLE")])
async def test_a_long_one_is_503_at_once_and_the_endpoint_rests(
    near_plain: NodeClient, plain: ScriptedRegistry, status: int, code: str, after: str, expected: int
) -> None:
    plain.script(on(), Reply(status, headers={"Retry-After": in_seconds(600) if after == "date" else after}))
    got = await near_plain.get(manifest())
    assert (got.status, got.code) == (503, code)
    assert expected - 3 <= int(got.header("Retry-After") or 0) <= expected
    plain.behave()
    for method in ("HEAD", "GET"):
        got = await near_plain.send(method, manifest())
        assert (got.status, "limits requests" in got.reason) == (503, True)
        rest = min(expected, LONGEST_REST)  # a whole host is not silenced for a day by one answer
        assert rest - 5 <= int(got.header("Retry-After") or 0) <= rest
    assert len(plain.record.all()) == 1


async def test_no_endpoint_rests_longer_than_five_minutes(plain: ScriptedRegistry) -> None:
    clock = MovedClock()
    plain.script(on(), Reply(429, headers={"Retry-After": "86400"}))
    async with started(settings([plain.url]), replace(AT_ONCE, clock=clock)) as proxy:
        assert (await proxy.node.get(manifest())).status == 503
        plain.behave()
        clock.move(LONGEST_REST + 1)
        assert (await proxy.node.get(manifest())).status == 200


async def test_a_429_without_retry_after_is_503_in_the_end(near_plain: NodeClient, plain: ScriptedRegistry) -> None:
    plain.script(on(), Reply(429))
    before = metric("scope_proxy_upstream_rate_limited_total", upstream=REG)
    got = await near_plain.get(manifest())
    assert (got.status, got.code) == (503, "TOOMANYREQUESTS")
    assert len(plain.record.all()) == 3
    assert metric("scope_proxy_upstream_rate_limited_total", upstream=REG) == before + 3


async def test_while_one_endpoint_rests_the_other_serves(
    near_both: NodeClient, plain: ScriptedRegistry, second: ScriptedRegistry, image: Image
) -> None:
    plain.script(on(), Reply(429, headers={"Retry-After": "600"}))
    for _ in range(3):
        assert (await near_both.get(manifest())).body == image.manifest
    assert (len(plain.record.all()), len(second.record.all())) == (1, 3)


async def test_a_request_that_was_under_way_does_not_end_the_rest(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    """What succeeds while the endpoint asks another request to wait says nothing of its wish."""
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(on("HEAD"), Stall(BEFORE_HEADERS, until, reached))
    plain.script(on("GET"), Reply(429, headers={"Retry-After": "600"}))
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(near_plain.head(manifest()))
        await reached.wait()
        assert (await near_plain.get(manifest())).status == 503
        until.set()
    assert under_way.result().header("Docker-Content-Digest") == image.digest
    assert (await near_plain.get(manifest())).status == 503
    assert len(plain.record.of("manifest", "GET")) == 1


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_trouble_that_passes_is_not_seen_and_what_stays_is_503(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, method: str, status: int
) -> None:
    plain.script(on().times(2), Reply(status))
    got = await near_plain.send(method, manifest())
    assert (got.status, got.header("Docker-Content-Digest")) == (200, image.digest)
    plain.script(on(), Reply(status))
    got = await near_plain.send(method, manifest())
    assert (got.status, f"answered {status}" in got.reason) == (503, True)


async def test_our_own_limit_is_503_and_no_fault_of_the_endpoint(plain: ScriptedRegistry, image: Image) -> None:
    """A node that takes nothing of its layer holds the one place for blobs; manifests have one of their own."""
    large = plain.add_blob(UPSTREAM, Generated(48 * MIB, seed=2)).digest
    configuration = settings([plain.url], timeouts={"blob": "2s"}, host={"maxConnections": 2})
    async with started(configuration) as proxy, proxy.node.opened("GET", blob(large)) as (reader, _):
        assert (await read_head(reader))[0] == 200
        got = await proxy.node.get(blob(layer_of(image)[0]))
        assert (got.status, got.code) == (503, "TOOMANYREQUESTS")
        assert "maxConnections" in got.reason
        assert (await proxy.node.get(manifest())).body == image.manifest
