"""The paths of the status page: `/status`, `/status.json`, `/status/explain`, `/status/images`.

The admin port has no authentication, so the pages contain no secret and change nothing. The Host header is not checked:
operators use port forwards, service names and their own proxies. A website whose name resolves to this address (DNS
rebinding) can therefore read these pages, as it can read the metrics.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.server.status.collector import ExplainForm, StatusCollector, explain
from proxy.server.status.values import Links

if TYPE_CHECKING:
    from proxy.server.status.page import Page as StatusPage

Page = Callable[[web.BaseRequest], Awaitable[web.Response]]
"""Makes the response to GET and HEAD of one path."""

STATUS = "/status"
STATUS_JSON = "/status.json"
EXPLAIN = "/status/explain"
IMAGES = "/status/images"

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "scope-proxy",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of all responses."""
JSON_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy of JSON."""

_JSON = "application/json"
_FROM_STATUS = Links("status", "status.json", "status/explain", "status/images")
_FROM_EXPLAIN = Links("../status", "../status.json", "explain", "images")


def status_pages(collector: StatusCollector) -> Mapping[str, Page]:
    """The pages by path."""
    pages = _Pages(collector)
    return {STATUS: pages.status, STATUS_JSON: pages.status_json, EXPLAIN: pages.explain, IMAGES: pages.images}


class _Pages:
    def __init__(self, collector: StatusCollector) -> None:
        self._collector = collector

    async def status(self, request: web.BaseRequest) -> web.Response:
        """The page, or JSON if the client prefers it."""
        return (
            await self.status_json(request) if _wants_json(request) else await self._page(ExplainForm(), _FROM_STATUS)
        )

    async def status_json(self, _: web.BaseRequest) -> web.Response:
        """The status as JSON."""
        status = await self._collector.status()
        return _data(await asyncio.to_thread(status.as_dict))

    async def explain(self, request: web.BaseRequest) -> web.Response:
        """The route of an image, in the page or as JSON; 400 if it has none."""
        image, client = request.query.get("image", ""), request.query.get("client", "")
        form = await asyncio.to_thread(explain, self._collector.loaded, image, client)
        code = 400 if form.error else 200
        return _data(form.data or {}, code) if _wants_json(request) else await self._page(form, _FROM_EXPLAIN, code)

    async def images(self, request: web.BaseRequest) -> web.Response:
        """The cached images that match a pattern, in a page or as JSON; 400 if there is no list."""
        listed = await self._collector.images(request.query.get("pattern", ""))
        code = 400 if listed.error else 200
        if _wants_json(request):
            return _data(await asyncio.to_thread(listed.as_dict), code)
        template = await asyncio.to_thread(_loaded_page)
        text = await asyncio.to_thread(template.render_images, listed, _FROM_EXPLAIN)
        return _html(text, template.policy, code)

    async def _page(self, form: ExplainForm, links: Links, code: int = 200) -> web.Response:
        status = await self._collector.status()
        template = await asyncio.to_thread(_loaded_page)
        text = await asyncio.to_thread(template.render, status, form, links)
        return _html(text, template.policy, code)


def _loaded_page() -> "StatusPage":
    """The page, loaded on first use; blocks."""
    from proxy.server.status.page import page  # noqa: PLC0415 - imports Jinja, which most processes never need

    return page()


def _wants_json(request: web.BaseRequest) -> bool:
    accept = ",".join(request.headers.getall("Accept", []))
    return _JSON in accept and "text/html" not in accept


def _html(text: str, policy: str, code: int) -> web.Response:
    headers = {**HEADERS, "Content-Security-Policy": policy}
    return web.Response(status=code, text=text, content_type="text/html", charset="utf-8", headers=headers)


def _data(data: Mapping[str, Any], code: int = 200) -> web.Response:
    headers = {**HEADERS, "Content-Security-Policy": JSON_POLICY}
    return web.Response(status=code, text=json.dumps(data, indent=2) + "\n", content_type=_JSON, headers=headers)
