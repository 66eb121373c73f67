"""A front for a client that pushes as well: reads of content go to the proxy, everything else to the registry."""

import io
import re
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

BODY_LIMIT = 64 << 20
TIMEOUT = aiohttp.ClientTimeout(total=60)
_READ = re.compile(r"/v2/(.+/(manifests|tags|referrers|blobs/(?!uploads/)).*)?")
_OF_THE_CONNECTION = ("Connection", "Keep-Alive", "Transfer-Encoding")
_SESSION: Final = web.AppKey("session", aiohttp.ClientSession)


def front(proxy: str, registry: str) -> web.Application:
    """The front's handlers, before a proxy and a registry at these addresses (`127.0.0.1:<port>`)."""

    async def forward(request: web.Request) -> web.Response:
        reads = request.method in {"GET", "HEAD"} and _READ.fullmatch(request.path)
        url = URL(f"http://{proxy if reads else registry}{request.raw_path}", encoded=True)
        headers = _end_to_end(request.headers)
        if reads:
            headers.popall("Host")  # the registry makes the addresses of uploads of it
        body = await request.read()
        async with request.app[_SESSION].request(
            request.method, url, headers=headers, data=io.BytesIO(body) if body else None, allow_redirects=False
        ) as response:
            content = await response.read()
            return web.Response(status=response.status, headers=_end_to_end(response.headers), body=content)

    app = web.Application(client_max_size=BODY_LIMIT)
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


async def _session(app: web.Application) -> AsyncIterator[None]:
    unchanged = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
    async with aiohttp.ClientSession(auto_decompress=False, timeout=TIMEOUT, skip_auto_headers=unchanged) as session:
        app[_SESSION] = session
        yield


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in _OF_THE_CONNECTION:
        kept.popall(name, None)
    return kept
