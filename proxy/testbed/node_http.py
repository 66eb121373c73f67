"""One request of a node, redirects included as Go's client follows them."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from proxy.testbed.node_values import Reply, Step

REQUEST_SECONDS = 60.0
MANIFEST_CAP = 8 * 1024 * 1024
BLOB_CAP = 256 * 1024 * 1024
MAX_HOPS = 10

_MOVED = frozenset({301, 302, 303, 307, 308})


class HostError(Exception):
    """The host could not be used; the text is what containerd would print after its own prefix."""


class NodeHttp:
    """Sends requests and keeps the list of steps."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.steps: list[Step] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], cap: int) -> Reply:
        """The answer after redirects; raises HostError when there is none or it is over `cap` bytes."""
        reply = await self._once(method, url, headers, cap)
        for _ in range(MAX_HOPS):
            location = reply.headers.get("Location")
            if reply.status not in _MOVED or not location:
                return reply
            target = urljoin(reply.url, location)
            same_host = urlsplit(target).hostname == urlsplit(reply.url).hostname
            headers = headers if same_host else _without_authorization(headers)
            reply = await self._once(method, target, headers, cap)
        raise HostError(f"failed to do request: stopped after {MAX_HOPS} redirects")

    async def post(self, url: str, form: str, scopes: tuple[str, ...]) -> Reply:
        """The answer to a posted form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return await self._once("POST", url, headers, MANIFEST_CAP, form=form, scopes=scopes)

    async def get_token(self, url: str, headers: Mapping[str, str], scopes: tuple[str, ...]) -> Reply:
        """The answer to a token request by GET."""
        return await self._once("GET", url, headers, MANIFEST_CAP, scopes=scopes)

    async def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        cap: int,
        *,
        form: str | None = None,
        scopes: tuple[str, ...] = (),
    ) -> Reply:
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                self._session.request(
                    method,
                    URL(url, encoded=True),
                    headers=_encoding(method) | dict(headers),
                    data=form,
                    allow_redirects=False,
                ) as response,
            ):
                self.steps.append(Step(method, url, scopes, response.status, response.reason or ""))
                body = await _read(response, cap)
                return Reply(url, method, response.status, response.reason or "", response.headers, body)
        except aiohttp.ClientPayloadError as error:
            raise HostError("unexpected EOF") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise HostError(f"failed to do request: {method} {url}: {str(error) or type(error).__name__}") from error


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > cap:
            raise HostError(f"the answer is larger than {cap} bytes")
    return bytes(body)


def _without_authorization(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Authorization"}


def _encoding(method: str) -> dict[str, str]:
    """Go's client asks for gzip by itself, but not with HEAD."""
    return {} if method == "HEAD" else {"Accept-Encoding": "gzip"}
