"""One token request: GET with Basic, or an OAuth2 POST, to a realm that has been judged; and its grant."""

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, Self

import aiohttp
from cachetools import TLRUCache
from yarl import URL

from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope
from proxy.transport.clock import UpstreamTime, at_upstream, measured
from proxy.transport.connection_errors import connection_trouble, is_own_limit, refused_address
from proxy.transport.limits import CountedHostLimit, QueueFull, Size
from proxy.transport.response import HttpResponse
from proxy.transport.retry import parse_retry_after
from proxy.transport.session import Outgoing, Sessions

DEFAULT_LIFE = 60.0
"""Seconds that a token lives whose server does not say (the token specification)."""
LONGEST_LIFE = 24 * 3600.0
"""Seconds that a token is used at the most, whatever its server says."""
REFRESH_SHARE = 0.2
"""A grant is renewed in the background in this last part of its life ..."""
REFRESH_SECONDS = 30.0
"""... or in its last so many seconds, whichever is shorter."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:-]{1,16384}")


class TokenInvalid(Exception):
    """A token server answered with success and no usable token; the message never holds what it sent."""


@dataclass(frozen=True, slots=True)
class GrantKey:
    """What a grant is good for; grants are never shared between two different keys."""

    host: Origin
    realm: str
    service: str | None
    identity: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Grant:
    """A token; times are of the monotonic clock, in seconds."""

    token: str = field(repr=False)
    fetched_at: float
    expires_at: float

    @classmethod
    def parse(cls, answer: object, asked_at: float) -> Self:
        """Read the JSON of a token server; raises TokenInvalid.

        Life counts from when the token was asked for. `token` or `access_token` may hold it, the latter wins.
        """
        if not isinstance(answer, Mapping):
            raise TokenInvalid("the token server sent JSON that is no object")
        token = answer.get("access_token") or answer.get("token")
        if not isinstance(token, str):
            raise TokenInvalid("the token server sent neither token nor access_token")
        if not _TOKEN.fullmatch(token):
            raise TokenInvalid("the token server sent a token with characters that no token has, or too long a one")
        return cls(token, asked_at, asked_at + _life(answer.get("expires_in")))

    def limited(self, seconds: float) -> Self:
        """The same, used for so many seconds at the most."""
        return replace(self, expires_at=min(self.expires_at, self.fetched_at + seconds))

    @property
    def is_valid(self) -> bool:
        """Whether it has not expired."""
        return time.monotonic() < self.expires_at

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it in the background."""
        margin = min((self.expires_at - self.fetched_at) * REFRESH_SHARE, REFRESH_SECONDS)
        return time.monotonic() >= self.expires_at - margin


def _life(expires_in: Any) -> float:
    """Seconds of `expires_in`, which some servers leave out, send as text, or as 0."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = int(expires_in[:10])
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in >= 1:
        return DEFAULT_LIFE
    return float(min(expires_in, LONGEST_LIFE))


TIMEOUT_SECONDS = 10.0
"""For one token request."""
BODY_LIMIT = 64 * 1024
"""Largest answer of a token server in bytes."""
CLIENT_ID = "scope-proxy"

Method = Literal["get", "post"]

_REFUSALS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.NOT_ACCEPTABLE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
_OTHER_METHOD = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
)  # not 401: a wrong password is sent once, not twice


class TokenRefused(Exception):
    """The token server refuses: with this credential there is no token for this scope."""

    def __init__(self, status: int, server: str) -> None:
        super().__init__(f"token server {server} answered {status}")
        self.status = status
        self.server = server

    def again(self) -> Self:
        """The same error anew: one that is remembered and raised often would grow with each time it is raised."""
        return type(self)(self.status, self.server)


class TokenUnavailable(Exception):
    """The token server cannot be asked, or sent no token.

    `retry_after` is in seconds; `local` tells that it was a limit of our own that kept the request from it.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, local: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.local = local

    def again(self) -> Self:
        """The same error anew."""
        return type(self)(self.reason, self.retry_after, local=self.local)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked of which token server, for which upstream."""

    url: URL
    realm_origin: Origin
    host: Origin
    service: str | None
    scope: Scope
    login: Login
    upstream: str
    method: Method | None = None
    """The configured one; None where it is learned."""


async def exchange(sessions: Sessions, request: TokenRequest, method: Method) -> Grant:
    """Ask once; raises TokenRefused and TokenUnavailable. Redirects are not followed."""
    asked_at = time.monotonic()
    gate = CountedHostLimit(sessions.host_limit(request.realm_origin), request.upstream)
    with measured() as spent:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), gate.admitted(Size.SMALL):
                status, body, retry_after = await _send(sessions, request, method)
        except TimeoutError:
            raise _late(request, spent) from None
        except QueueFull as error:
            raise TokenUnavailable(f"{_name(request)}: {error}", local=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(request, error) from error
    if status in _REFUSALS:
        raise TokenRefused(status, request.realm_origin.authority)
    if status != HTTPStatus.OK:  # the one status that carries a token
        raise TokenUnavailable(f"{_name(request)} answered {status}", parse_retry_after(retry_after))
    return _parse(request, body, asked_at)


def _late(request: TokenRequest, spent: UpstreamTime) -> TokenUnavailable:
    """Why there is no token in time, by the time that the token server has had for it."""
    if spent.is_short_of(TIMEOUT_SECONDS):
        reason = f"the request to {_name(request)} waited too long for its turn in scope-proxy (maxConnections)"
        return TokenUnavailable(reason, local=True)
    return TokenUnavailable(f"{_name(request)} did not answer within {TIMEOUT_SECONDS:.0f} s")


def _unreachable(request: TokenRequest, error: aiohttp.ClientError | OSError) -> TokenUnavailable:
    refused = refused_address(error)
    text = f"{_name(request)} {connection_trouble(error)[1]}" if refused is None else f"token server {refused}"
    return TokenUnavailable(text, local=is_own_limit(error))


def other_method_may_work(refusal: TokenRefused) -> bool:
    """Whether a refused GET is worth a POST: servers that know only one of them answer so (ACR, AAD)."""
    return refusal.status in _OTHER_METHOD


def basic_authorization(login: Login) -> str:
    """The value of an Authorization header that logs in by Basic."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()


def _outgoing(request: TokenRequest, method: Method) -> Outgoing:
    parameters = {"scope": request.scope.text}
    if request.service is not None:
        parameters["service"] = request.service
    headers: dict[str, str] = {"Accept": "application/json"}
    url, form = request.url, None
    if method == "get":
        # Parts of the realm's own query stay; nothing is put together as text, so nothing can be smuggled in.
        url = url.update_query(parameters)
        if request.login.kind is LoginKind.PASSWORD:
            headers["Authorization"] = basic_authorization(request.login)
    else:
        form = {**parameters, **_oauth_grant(request.login), "client_id": CLIENT_ID}
    named_by = None if request.realm_origin == request.host else request.host
    return Outgoing(
        "GET" if method == "get" else "POST",
        url,
        request.realm_origin,
        headers,
        (request.upstream, "token"),
        form,
        named_by,
    )


def _oauth_grant(login: Login) -> Mapping[str, str]:
    if login.kind is LoginKind.IDENTITY_TOKEN:
        return {"grant_type": "refresh_token", "refresh_token": login.secret}
    return {"grant_type": "password", "username": login.username, "password": login.secret}


async def _send(sessions: Sessions, request: TokenRequest, method: Method) -> tuple[int, bytes, str | None]:
    response = HttpResponse(await sessions.request(_outgoing(request, method)))
    with at_upstream():
        body = await response.read_and_close(BODY_LIMIT)
    if len(body) > BODY_LIMIT:
        raise TokenUnavailable(f"{_name(request)} sent more than {BODY_LIMIT} bytes")
    return response.status, body, response.headers.get("Retry-After")


def _parse(request: TokenRequest, body: bytes, asked_at: float) -> Grant:
    try:
        return Grant.parse(json.loads(body), asked_at)
    except (ValueError, RecursionError):
        raise TokenUnavailable(f"{_name(request)} answered 200 with something that is not JSON") from None
    except TokenInvalid as error:
        raise TokenUnavailable(f"{_name(request)}: {error}") from None


def _name(request: TokenRequest) -> str:
    return f"token server {request.realm_origin.authority}"


REFUSED_SECONDS = 30.0
"""How long a refusal stands; another password is another key, so a corrected one is tried at once."""
LONGEST_SECONDS = 60.0
"""How long a token server that asks for it by Retry-After is left alone at the most."""
FAILURES_LIMIT = 20_000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: TokenRefused | TokenUnavailable
    until: float


class Failures:
    """Remembers failed token requests."""

    def __init__(self) -> None:
        self._failures: TLRUCache[GrantKey, _Failure] = TLRUCache(
            FAILURES_LIMIT, ttu=lambda _key, failure, _now: failure.until, timer=time.monotonic
        )

    def get(self, key: GrantKey) -> TokenRefused | TokenUnavailable | None:
        """Why there was no token a moment ago."""
        failure = self._failures.get(key)
        return None if failure is None else failure.error.again()

    def add(self, key: GrantKey, error: TokenRefused | TokenUnavailable) -> None:
        """There is no token for now; what may pass at any moment is not remembered."""
        seconds = REFUSED_SECONDS
        if isinstance(error, TokenUnavailable):
            if not error.retry_after:
                return
            seconds = min(error.retry_after, LONGEST_SECONDS)
        self._failures[key] = _Failure(error.again(), time.monotonic() + seconds)
        _logger.warning("no token for %s: %s; asked again in %.0f s at the earliest", key.scope, error, seconds)
