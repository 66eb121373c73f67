"""A client of the listener of a running proxy, which pulls as a node does."""

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from proxy.config.address import Origin
from proxy.oci.challenge import BEARER, Challenge, choose_challenge, parse_challenges
from proxy.oci.reference import ImageReference
from proxy.version import USER_AGENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""How long a response may bring no byte. The proxy itself responds sooner, if only with an error."""
ATTEMPTS = 6
"""Requests for one thing: a slow registry makes the proxy respond with 504 while its download continues."""
LONGEST_PAUSE = 30.0
ERROR_LIMIT = 64 * 1024
"""Bytes of an error or of a token response that are read."""
REASON_LIMIT = 500
"""Characters of a reason that are printed."""

_BUSY = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_OK = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})

Result = TypeVar("Result")


class PrefetchFailed(Exception):
    """The proxy does not serve what was requested; the message has its reason."""


class _Busy(Exception):
    """The proxy may serve it later; `pause` is its Retry-After in seconds."""

    def __init__(self, reason: str, pause: float | None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class BasicLogin:
    """User name and password of a listener."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The Authorization header."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class ListenerAddress:
    """The listener of one proxy."""

    origin: Origin
    address: str | None = None
    """The IP address to connect to; None for those that the origin's host has."""

    def __str__(self) -> str:
        """The origin, and the address where one is chosen."""
        return str(self.origin) if self.address is None else f"{self.origin} at {self.address}"


class FixedResolver(AbstractResolver):
    """Resolves every name to one address: certificates are verified against the name all the same."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The address."""
        del family
        kind = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host=self._address, port=port, family=kind, proto=0, flags=flags)]

    async def close(self) -> None:
        """There is nothing to close."""


class ListenerClient:
    """Sends requests to one listener. Only this listener gets credentials: no redirect is followed."""

    def __init__(
        self, session: aiohttp.ClientSession, origin: Origin, login: BasicLogin | None = None, pause: float = 2.0
    ) -> None:
        self._session = session
        self._root = URL(str(origin))
        self._login = login
        self._pause = pause
        self._headers: dict[tuple[str, str], str] = {}
        """Authorization headers by registry and repository."""

    async def request(
        self,
        image: ImageReference,
        suffix: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[Result]],
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Result:
        """What `read` makes of the response for something of the image's repository.

        Repeats the request where the proxy is busy or the connection breaks. Raises PrefetchFailed.
        """
        url = self._root.joinpath("v2", *image.repository.split("/"), *suffix.split("/"))
        url = url.with_query({"ns": image.registry})
        pause, reason = self._pause, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(min(pause, LONGEST_PAUSE))
            try:
                return await self._authorized(image, method, url, headers or {}, read)
            except _Busy as error:
                reason, pause = str(error), self._pause if error.pause is None else error.pause
            except (aiohttp.ClientSSLError, ssl.SSLError) as error:
                raise PrefetchFailed(f"cannot connect to {self._root}: {_printable(str(error))}") from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason, pause = _printable(str(error) or type(error).__name__), self._pause
        raise PrefetchFailed(f"{reason} ({ATTEMPTS} attempts)")

    async def _authorized(
        self,
        image: ImageReference,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        read: Callable[[aiohttp.ClientResponse], Awaitable[Result]],
    ) -> Result:
        """As one request; after a 401 once more, with what its challenge requires."""
        key = (image.registry, image.repository)
        for is_last in (False, True):
            known = self._headers.get(key)
            sent = {**headers, **({} if known is None else {"Authorization": known})}
            async with self._session.request(method, url, headers=sent, allow_redirects=False) as response:
                if response.status in _OK:
                    return await read(response)
                if response.status == HTTPStatus.UNAUTHORIZED and not is_last:
                    lines = response.headers.getall("WWW-Authenticate", [])
                    challenge = choose_challenge(parse_challenges(lines))
                else:
                    raise await _error_of(response)
            self._headers[key] = await self._header(challenge)
        raise PrefetchFailed("the listener refuses the credentials")

    async def _header(self, challenge: Challenge | None) -> str:
        """The Authorization header that a challenge requires; raises PrefetchFailed and _Busy."""
        if challenge is not None and challenge.scheme == BEARER:
            return f"Bearer {await self._token(challenge)}"
        if challenge is None or self._login is None:
            raise PrefetchFailed("the listener requires authentication: use --username and --password-file")
        return self._login.header

    async def _token(self, challenge: Challenge) -> str:
        """A token of the listener itself, which is its own realm: only the path of the realm counts here."""
        query = {"scope": challenge.scope} if challenge.scope else {}
        if challenge.service:
            query["service"] = challenge.service
        try:
            url = self._root.with_path(URL(challenge.realm).path).with_query(query)
        except ValueError:
            raise PrefetchFailed("the listener names a realm that is not a URL") from None
        headers = {} if self._login is None else {"Authorization": self._login.header}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise await _error_of(response)
            body = await read_limited(response, ERROR_LIMIT)
        try:
            fields = json.loads(body)
            token = fields.get("token") or fields.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise PrefetchFailed("the listener sent no valid token")
        return token


async def read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body; raises PrefetchFailed where it is larger than `limit` bytes."""
    body = bytearray()
    async for piece in response.content.iter_chunked(ERROR_LIMIT):
        body += piece
        if len(body) > limit:
            raise PrefetchFailed(f"the response to {response.url.path} is larger than {limit} bytes")
    return bytes(body)


@asynccontextmanager
async def listener_session(
    listener: ListenerAddress, tls: ssl.SSLContext, connections: int
) -> "AsyncIterator[aiohttp.ClientSession]":
    """A session with at most so many connections to a listener; it uses no forward proxy and keeps no cookie."""
    resolver = aiohttp.ThreadedResolver() if listener.address is None else FixedResolver(listener.address)
    connector = aiohttp.TCPConnector(ssl=tls, limit=connections, resolver=resolver)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    ) as session:
        yield session


async def _error_of(response: aiohttp.ClientResponse) -> PrefetchFailed | _Busy:
    """What a response with an error says: the first message of the body, else the reason phrase."""
    try:
        [first, *_] = json.loads(await read_limited(response, ERROR_LIMIT))["errors"]
        message = str(first["message"])
    except (ValueError, TypeError, LookupError, RecursionError, PrefetchFailed):
        message = response.reason or "no reason"
    reason = f"the proxy responded with {response.status}: {_printable(message)}"
    if response.status not in _BUSY:
        return PrefetchFailed(reason)
    after = response.headers.get("Retry-After", "")
    return _Busy(reason, float(after) if after.isascii() and after.isdigit() and len(after) < len("1000") else None)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:REASON_LIMIT])
