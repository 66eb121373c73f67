"""What clients and upstreams send makes no series; every request is counted once, whichever worker answers it."""

import asyncio
import base64
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.real.proxy_process import Proxy, serving_proxy

pytestmark = pytest.mark.slow

BUDGET = 1000
REQUESTS = 10_000
AT_ONCE = 48
MARK = "zq"
"""Begins everything that the clients of these tests invent."""
CODES = (404, 404, 404, 429, 599, 799)
"""What the upstream answers, known to the standards or not."""


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """A registry that has nothing, and is not always in the mood to say so."""
    choice = random.Random(1)  # noqa: S311 - a repeatable test, no secret

    async def answer(request: web.BaseRequest) -> web.Response:
        status = choice.choice(CODES) if request.path.endswith("/list") else 404
        return web.Response(status=status, text="no")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextmanager
def proxied(url: str, workers: int) -> Iterator[Proxy]:
    """A proxy of three upstreams with ten rules."""
    rules = [{"pattern": f"^team{number}/(.+)$", "replacement": f"group{number}/$1"} for number in range(10)]
    parts = {"one.example": rules[:4], "two.example": rules[4:7], "*": rules[7:]}
    registries = {name: {"endpoints": [url], "rewrites": own} for name, own in parts.items()}
    with serving_proxy(registries, clients={"auth": "upstream", "allowAnonymous": True}, workers=workers) as proxy:
        yield proxy


@asynccontextmanager
async def running(workers: int = 1) -> AsyncIterator[Proxy]:
    """The proxy, with its upstream in this event loop."""
    async with upstream() as url:
        context = proxied(url, workers)
        proxy = await asyncio.to_thread(context.__enter__)
        try:
            yield proxy
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)


def requests(count: int) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Requests of which hardly two name the same: method, target, headers."""
    choice = random.Random(2)  # noqa: S311 - as above
    for number in range(count):
        name = f"{MARK}{choice.getrandbits(64):x}"
        repository = f"team{choice.randrange(12)}/{name}"
        digest = f"sha256:{choice.getrandbits(256):064x}"
        target = choice.choice(
            (
                f"/v2/{repository}/manifests/{name}?ns=one.example",
                f"/v2/{repository}/manifests/{digest}?ns=two.example",
                f"/v2/{repository}/blobs/{digest}?ns={name}.example",
                f"/v2/{repository}/blobs/{MARK}:{number}?ns=one.example",
                f"/v2/{repository}/referrers/{digest}?ns=two.example",
                f"/v2/{repository}/tags/list?ns=one.example&last={name}",
                f"/v2/{repository}/manifests/{name}?ns={name}{'/' * choice.randrange(2)}",
                f"/v2/{name.upper()}/manifests/1?ns=one.example",
                f"/{name}/{number}",
            )
        )
        user = base64.b64encode(f"{name}:{number}".encode()).decode()
        headers = {"User-Agent": name, "X-Request-Id": name, "Range": f"bytes={number}-"}
        if choice.randrange(2):
            headers["Authorization"] = f"Basic {user}"
        yield choice.choice(("GET", "GET", "GET", "HEAD", f"{MARK.upper()}{number}")), target, headers


async def send(proxy: Proxy, count: int) -> None:
    """Send so many requests, some of them at one time."""
    waiting = requests(count)

    async def work(session: aiohttp.ClientSession) -> None:
        for method, target, headers in waiting:
            async with session.request(method, proxy.url + target, headers=headers) as answer:
                await answer.read()

    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work(session))


async def scraped(proxy: Proxy) -> str:
    """The metrics, without their comments."""
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.admin_url}/metrics") as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def counted(page: str) -> int:
    """The requests of nodes that were counted."""
    values = re.findall(r"^scope_proxy_http_requests_total\{.*\} (\S+)$", page, re.MULTILINE)
    return int(sum(map(float, values)))


async def test_ten_thousand_random_requests_make_no_series() -> None:
    async with running() as proxy:
        before = (await scraped(proxy)).count("\n")
        await send(proxy, REQUESTS)
        page = await scraped(proxy)
    assert counted(page) == REQUESTS
    assert MARK not in page.lower()
    assert 'code="799"' not in page
    assert 500 < before <= page.count("\n") + 1 <= BUDGET


@pytest.mark.parametrize("workers", [1, 2])
async def test_requests_are_counted_exactly_however_many_workers_there_are(workers: int) -> None:
    async with running(workers) as proxy:
        await send(proxy, 200)
        page = await scraped(proxy)
    assert counted(page) == 200
    assert ("\nprocess_open_fds" in page) is (workers == 1)
