"""Answers that do not come: a request that is lost on its way is sent once more, and nothing else is."""

import asyncio
from pathlib import Path

import pytest

from tests.cache.serving import BLOB, cached, eventually, in_time
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.client import read_head
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, UPSTREAM, blob, manifest, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(6 * MIB, seed=121)
SOON = {"manifest": "300ms", "blob": "300ms"}


def retries() -> float:
    return metric("scope_proxy_upstream_retries_total", upstream=REG)


async def test_a_request_that_is_lost_on_the_way_is_sent_once_more(
    plain: ScriptedRegistry, directory: Path, never: Stall
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.nth(1), never)
    before = retries()
    async with cached([plain.url], directory, timeouts=SOON) as node:
        assert (await in_time(node, blob(digest))).status == 200
    assert len(plain.record.of("blob", "GET")) == 2
    assert retries() == before + 1


@pytest.mark.parametrize("status", [403, 404])
async def test_whatever_the_second_answer_is_counts(
    plain: ScriptedRegistry, directory: Path, never: Stall, status: int
) -> None:
    plain.script(on(kind="manifest").nth(1), never)
    plain.script(on(kind="manifest").starting(2), Reply(status))
    async with cached([plain.url], directory, timeouts=SOON) as node:
        assert (await in_time(node, manifest())).status == status


async def test_what_waits_for_a_place_of_ours_is_not_sent_once_more(plain: ScriptedRegistry, directory: Path) -> None:
    holder = plain.add_blob(UPSTREAM, Generated(48 * MIB, seed=122)).digest
    others = [plain.add_blob(UPSTREAM, Generated(MIB, seed=130 + number)).digest for number in range(4)]
    until, before = asyncio.Event(), retries()
    plain.script(BLOB.nth(1), Stall(5 * MIB, until))
    async with (
        cached([plain.url], directory, timeouts={"blob": "1s"}, host={"maxConnections": 2}) as node,
        node.opened("GET", blob(holder)) as (reader, _),
    ):
        assert (await read_head(reader))[0] == 200
        got = await asyncio.gather(*(node.get(blob(digest)) for digest in others))
        assert {answer.status for answer in got} == {504}
        assert metric("scope_proxy_upstream_queue", upstream=REG) == len(others)
        until.set()
    assert retries() == before


async def test_an_endpoint_that_is_slow_is_not_taken_to_be_down(
    plain: ScriptedRegistry, second: ScriptedRegistry, directory: Path, never: Stall
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    second.add_blob(UPSTREAM, LARGE)
    until = asyncio.Event()
    plain.script(BLOB, never)
    second.script(BLOB, Stall(BEFORE_HEADERS, until))
    async with cached([plain.url, second.url], directory, timeouts=SOON) as node:
        await node.get(blob(digest))
        await second.record.wait(2, "blob")
        assert metric("scope_proxy_upstream_up", upstream=REG) == 1
        until.set()
        assert (await in_time(node, blob(digest))).status == 200
    assert len(plain.record.of("blob")) == 1


async def test_when_both_are_lost_their_places_are_given_back(
    plain: ScriptedRegistry, directory: Path, never: Stall
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.times(2), never)
    async with cached([plain.url], directory, timeouts=SOON, cache={"fetchTimeout": "600ms"}) as node:
        assert (await node.get(blob(digest))).status == 504
        await plain.record.wait(2, "blob")
        await eventually(lambda: metric("scope_proxy_upstream_in_flight", upstream=REG) == 0)
        assert (await in_time(node, blob(digest))).status == 200
