"""The paths of the status page: `/status`, `/status.json`, `/status/explain`.

The admin port asks nobody who they are, so nothing secret is shown and nothing can be changed. The Host header is not
judged: operators come through port forwards, service names and proxies of their own. A page of another site that
resolves its name to this address could read what is shown, as it could read the metrics.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.server.status.look import Box, Look, explained
from proxy.server.status.values import Links

if TYPE_CHECKING:
    from proxy.server.status.page import Page as StatusPage

Page = Callable[[web.BaseRequest], Awaitable[web.Response]]
"""Makes the answer to GET and HEAD of one path."""

STATUS = "/status"
STATUS_JSON = "/status.json"
EXPLAIN = "/status/explain"

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "scope-proxy",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What all of them are sent with."""
NOTHING = "default-src 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy of what is no page."""

_JSON = "application/json"
_FROM_STATUS = Links("status", "status.json", "status/explain")
_FROM_EXPLAIN = Links("../status", "../status.json", "explain")


def status_pages(look: Look) -> Mapping[str, Page]:
    """What answers, by the path."""
    pages = _Pages(look)
    return {STATUS: pages.status, STATUS_JSON: pages.status_json, EXPLAIN: pages.explain}


class _Pages:
    def __init__(self, look: Look) -> None:
        self._look = look

    async def status(self, request: web.BaseRequest) -> web.Response:
        """The page, or the same as JSON for who wants that."""
        return await self.status_json(request) if _wants_json(request) else await self._page(Box(), _FROM_STATUS)

    async def status_json(self, _: web.BaseRequest) -> web.Response:
        """The status as JSON."""
        status = await self._look.status()
        return _data(await asyncio.to_thread(status.as_dict))

    async def explain(self, request: web.BaseRequest) -> web.Response:
        """The route of an image, in the page or as JSON; 400 where there is none."""
        image, client = request.query.get("image", ""), request.query.get("client", "")
        box = await asyncio.to_thread(explained, self._look.loaded, image, client)
        code = 400 if box.error else 200
        return _data(box.data or {}, code) if _wants_json(request) else await self._page(box, _FROM_EXPLAIN, code)

    async def _page(self, box: Box, links: Links, code: int = 200) -> web.Response:
        status = await self._look.status()
        template = await asyncio.to_thread(_loaded_page)
        text = await asyncio.to_thread(template.render, status, box, links)
        headers = {**HEADERS, "Content-Security-Policy": template.policy}
        return web.Response(status=code, text=text, content_type="text/html", charset="utf-8", headers=headers)


def _loaded_page() -> "StatusPage":
    """The page, in memory from when somebody asks for it the first time; blocks."""
    from proxy.server.status.page import page  # noqa: PLC0415 - it loads Jinja, and most proxies are never looked at

    return page()


def _wants_json(request: web.BaseRequest) -> bool:
    accept = ",".join(request.headers.getall("Accept", []))
    return _JSON in accept and "text/html" not in accept


def _data(data: Mapping[str, Any], code: int = 200) -> web.Response:
    headers = {**HEADERS, "Content-Security-Policy": NOTHING}
    return web.Response(status=code, text=json.dumps(data, indent=2) + "\n", content_type=_JSON, headers=headers)
