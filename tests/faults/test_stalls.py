"""Upstreams that stop in the middle, or never begin."""

import asyncio
import itertools

import pytest

from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, UPSTREAM, blob, layer_of, metric
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.slow

LARGE = Generated(8 * MIB + 3, seed=8)
BLOB = on("GET", "blob")


@pytest.mark.short_budgets
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_headers_that_never_come_are_504(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, never: Stall, method: str
) -> None:
    plain.script(on(kind="blob"), never)
    got = await near_plain.send(method, blob(layer_of(image)[0]))
    assert (got.status, "did not answer in time" in got.reason) == (504, True)
    assert len(plain.record.of("blob")) == 1


@pytest.mark.short_budgets
async def test_a_small_body_that_stalls_is_504(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, never: Stall
) -> None:
    plain.script(BLOB, Stall(20, never.until))
    got = await near_plain.get(blob(layer_of(image)[0]))
    assert (got.status, "did not send its whole answer in time" in got.reason) == (504, True)


@pytest.mark.short_budgets
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
async def test_a_large_body_that_stalls_is_continued(
    near_plain: NodeClient, plain: ScriptedRegistry, never: Stall, share: float
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    place = int(LARGE.size * share)
    plain.script(BLOB.nth(1), Stall(place, never.until))
    before = metric("scope_proxy_upstream_resumes_total", upstream=REG)
    got = await near_plain.get(blob(digest))
    assert (got.status, got.whole, got.sha256) == (200, True, digest)
    first, again = plain.record.of("blob")
    assert first.headers.get("range") is None
    assert again.headers["range"] == f"bytes={place}-{LARGE.size - 1}"
    assert metric("scope_proxy_upstream_resumes_total", upstream=REG) == before + 1


@pytest.mark.short_budgets
async def test_a_range_that_stalls_is_continued(near_plain: NodeClient, plain: ScriptedRegistry, never: Stall) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.nth(1), Stall(MIB, never.until))
    got = await near_plain.get(blob(digest), ("Range", "bytes=1000-"))
    assert (got.status, got.whole) == (206, True)
    assert got.body == b"".join(LARGE.pieces(1000, LARGE.size))
    assert plain.record.of("blob")[1].headers["range"] == f"bytes={1000 + MIB}-{LARGE.size - 1}"


@pytest.mark.short_budgets
@pytest.mark.parametrize("breaks", [3, 4])
@pytest.mark.parametrize("how", ["cut", "stall"])
async def test_three_times_at_most_and_then_the_connection_is_cut(
    near_plain: NodeClient, plain: ScriptedRegistry, never: Stall, how: str, breaks: int
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.times(breaks), Cut(MIB) if how == "cut" else Stall(MIB, never.until))
    before = metric("scope_proxy_http_aborted_total", reason="upstream")
    got = await near_plain.get(blob(digest))
    assert got.status == 200
    assert len(plain.record.of("blob")) == 4
    if breaks == 3:
        assert (got.whole, got.sha256) == (True, digest)
    else:
        assert not got.whole
        assert 3 * MIB < got.size <= 4 * MIB
        assert metric("scope_proxy_http_aborted_total", reason="upstream") == before + 1


async def test_a_slow_body_that_makes_progress_is_not_stalled(near_plain: NodeClient, plain: ScriptedRegistry) -> None:
    """Many short stops, none of them as long as `stall`: one request serves it."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    steps = [(asyncio.Event(), asyncio.Event(), at * MIB) for at in range(8)]
    plain.script(BLOB, *(Stall(at, until, reached) for until, reached, at in steps))

    async def let_go() -> None:
        for until, reached, _ in steps:
            await reached.wait()
            until.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(let_go())
        request = tasks.create_task(near_plain.get(blob(digest)))
    assert request.result().sha256 == digest
    assert len(plain.record.of("blob")) == 1


async def test_a_body_that_breaks_goes_on_at_the_second_endpoint(
    near_both: NodeClient, plain: ScriptedRegistry, second: ScriptedRegistry
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    second.add_blob(UPSTREAM, LARGE)
    numbers = itertools.count(1)
    plain.script(BLOB.where(lambda _: next(numbers) > 0).nth(1), Cut(3 * MIB))
    plain.script(on(), Cut(-1))
    got = await near_both.get(blob(digest))
    assert (got.whole, got.sha256) == (True, digest)
    assert [entry.headers.get("range") for entry in second.record.of("blob")] == [f"bytes={3 * MIB}-{LARGE.size - 1}"]
