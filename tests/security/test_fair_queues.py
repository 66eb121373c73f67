"""The queue of a host: an address that fills it keeps nobody else out of it, and waits in nobody's way."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from proxy.transport.limits import QUEUE_LIMIT
from tests.cache.serving import cached, eventually
from tests.fakes.client import Got, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, layer_of, manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
FLOOD = 40
PATIENT = {"manifest": "60s", "blob": "60s", "connect": "60s"}
"""On a busy machine the flood would end by itself."""
WAITING = "scope_proxy_upstream_queue"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


FLOODS: dict[str, tuple[str, Callable[[int], str]]] = {
    "manifests by tag": ("GET", lambda number: manifest(f"flood{number}")),
    "manifests by digest": ("GET", lambda number: manifest(digest(number))),
    "heads": ("HEAD", lambda number: manifest(f"flood{number}")),
    "blobs": ("GET", lambda number: blob(digest(number))),
    "ranges": ("GET", lambda number: blob(digest(number))),
    "lists of tags": ("GET", lambda number: f"/v2/library/flood{number}/tags/list?ns={REG}"),
    "referrers": ("GET", lambda number: f"/v2/{NAME}/referrers/{digest(number)}?ns={REG}"),
    "many names": ("GET", lambda number: manifest("1", f"library/flood{number}")),
}
"""What the flood asks for."""
HEADERS: dict[str, Callable[[int], tuple[tuple[str, str], ...]]] = {
    "ranges": lambda number: (("Range", f"bytes={number}-"),),
    "many names": lambda number: (("X-Forwarded-For", f"10.0.0.{number}"), ("Forwarded", f"for=10.0.0.{number}")),
}


class Flood:
    """Requests of one address; the first of them get no answer until they are let go."""

    def __init__(self, what: str, node: NodeClient, tasks: asyncio.TaskGroup) -> None:
        self.method, self._target = FLOODS[what]
        self._headers = HEADERS.get(what)
        self._node = node
        self._tasks = tasks
        self.requests: list[asyncio.Task[Got]] = []

    def send(self, count: int) -> None:
        for _ in range(count):
            number = len(self.requests) + 1
            headers = self._headers(number) if self._headers is not None else ()
            work = self._node.send(self.method, self._target(number), *headers)
            self.requests.append(self._tasks.create_task(work))

    def wants(self, target: str, method: str = "GET") -> None:
        """One more request, at the end of its queue."""
        self.requests.append(self._tasks.create_task(self._node.send(method, target)))

    @property
    def statuses(self) -> list[int]:
        return [request.result().status for request in self.requests]


def is_blob(what: str) -> bool:
    return what in {"blobs", "ranges"}


def wanted(what: str, image: Image) -> str:
    """What the other client asks for, of the same size as the flood."""
    return blob(layer_of(image)[0]) if is_blob(what) else manifest()


def place(registry: ScriptedRegistry, target: str) -> int:
    """How many requests the registry had answered before this one."""
    reference = target.partition("?")[0].rpartition("/")[2]
    names = [(seen.repository, seen.reference) for seen in registry.record.all()]
    return names.index((UPSTREAM, reference))


async def queued(count: int) -> None:
    await eventually(lambda: metric(WAITING, upstream=REG) == count)


@pytest.mark.parametrize("what", FLOODS)
async def test_whoever_comes_after_a_flood_is_next(plain: ScriptedRegistry, image: Image, what: str) -> None:
    until = asyncio.Event()
    plain.script(on().times(2), Stall(BEFORE_HEADERS, until))
    inside = 1 if is_blob(what) else 2
    async with (
        started(settings([plain.url], timeouts=PATIENT, host={"maxConnections": 2})) as proxy,
        asyncio.TaskGroup() as tasks,
    ):
        flood = Flood(what, proxy.node.at(FLOODER), tasks)
        flood.send(FLOOD)
        await queued(FLOOD - inside)
        other = tasks.create_task(proxy.node.at(OTHER).get(wanted(what, image)))
        await queued(FLOOD - inside + 1)
        until.set()
    assert other.result().status == 200
    assert place(plain, wanted(what, image)) <= 2 * inside  # those that had places, and as many in turn
    assert set(flood.statuses) <= {200, 404}  # nobody has lost anything


@pytest.mark.slow
@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("what", FLOODS)
async def test_a_queue_that_one_address_has_filled_has_room_for_another(
    plain: ScriptedRegistry, image: Image, what: str
) -> None:
    until = asyncio.Event()
    plain.script(on().times(2), Stall(BEFORE_HEADERS, until))
    inside = 1 if is_blob(what) else 2
    async with (
        started(settings([plain.url], timeouts=PATIENT, host={"maxConnections": 2})) as proxy,
        asyncio.TaskGroup() as tasks,
    ):
        flood = Flood(what, proxy.node.at(FLOODER), tasks)
        flood.send(inside + QUEUE_LIMIT)
        await queued(QUEUE_LIMIT)
        others = [tasks.create_task(proxy.node.at(OTHER).get(wanted(what, image)))]
        others.append(tasks.create_task(proxy.node.at(OTHER).get(wanted(what, image))))
        await eventually(lambda: sum(request.done() for request in (*flood.requests, *others)) == 2)
        until.set()
    assert [other.result().status for other in others] == [200, 200]
    assert flood.statuses.count(503) == 2


async def test_an_address_that_is_alone_has_the_whole_queue(plain: ScriptedRegistry) -> None:
    until = asyncio.Event()
    plain.script(on().times(2), Stall(BEFORE_HEADERS, until))
    async with (
        started(settings([plain.url], timeouts=PATIENT, host={"maxConnections": 2})) as proxy,
        asyncio.TaskGroup() as tasks,
    ):
        flood = Flood("manifests by tag", proxy.node.at(FLOODER), tasks)
        flood.send(FLOOD)
        await queued(FLOOD - 2)
        until.set()
    assert set(flood.statuses) == {404}


@pytest.mark.parametrize("what", ["manifests by tag", "manifests by digest", "heads", "blobs", "ranges"])
async def test_who_wants_the_same_as_the_end_of_a_flood_does_not_wait_behind_it(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, what: str
) -> None:
    """With a cache all who want the same share one request: it is as urgent as the least that one of them waits for."""
    until = asyncio.Event()
    plain.script(on().times(2), Stall(BEFORE_HEADERS, until))
    inside = 1 if is_blob(what) else 2
    method = FLOODS[what][0]
    target = blob(layer_of(image)[0]) if is_blob(what) else manifest(image.digest if "digest" in what else "1")
    async with (
        cached([plain.url], tmp_path, timeouts=PATIENT, host={"maxConnections": 2}) as node,
        asyncio.TaskGroup() as tasks,
    ):
        flood = Flood(what, node.at(FLOODER), tasks)
        flood.send(FLOOD)
        await queued(FLOOD - inside)
        flood.wants(target, method)
        await queued(FLOOD - inside + 1)
        other = tasks.create_task(node.at(OTHER).send(method, target))
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route=route(what)) == FLOOD + 2)
        until.set()
    assert other.result().status == 200
    assert place(plain, target) <= FLOOD // 2  # it has looked into the cache before it came to wait for the same


def route(what: str) -> str:
    return "blob" if is_blob(what) else "manifest"
