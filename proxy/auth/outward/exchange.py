"""Token requests (GET with Basic, or OAuth2 POST) to trusted realms, and their grants."""

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
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

DEFAULT_TTL = 60.0
"""TTL in seconds of a token without a valid `expires_in` (token specification)."""
MAX_TTL = 24 * 3600.0
"""Longest TTL of a token in seconds, whatever its server reports."""
REFRESH_SHARE = 0.2
"""A grant is renewed in the background in this last part of its TTL ..."""
REFRESH_SECONDS = 30.0
"""... or in its last seconds, whichever is shorter."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:-]{1,16384}")


class TokenInvalid(Exception):
    """A token server sent a success without a usable token; the message holds nothing of the response."""


@dataclass(frozen=True, slots=True)
class GrantKey:
    """What a grant is valid for; a grant is never used for another key."""

    host: Origin
    realm: str
    service: str | None
    identity: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Grant:
    """A token; times are seconds of the monotonic clock."""

    token: str = field(repr=False)
    fetched_at: float
    expires_at: float

    @classmethod
    def parse(cls, document: object, requested_at: float) -> Self:
        """Parse the JSON of a token server; raises TokenInvalid.

        The TTL counts from `requested_at`. `access_token` takes precedence over `token`.
        """
        if not isinstance(document, Mapping):
            raise TokenInvalid("the token server sent JSON that is not an object")
        token = document.get("access_token") or document.get("token")
        if not isinstance(token, str):
            raise TokenInvalid("the token server sent neither token nor access_token")
        if not _TOKEN.fullmatch(token):
            raise TokenInvalid("the token server sent a token that is too long or has invalid characters")
        return cls(token, requested_at, requested_at + _ttl(document.get("expires_in")))

    def with_max_ttl(self, seconds: float) -> Self:
        """The same grant, expiring at most `seconds` after its request."""
        return replace(self, expires_at=min(self.expires_at, self.fetched_at + seconds))

    def is_valid(self, now: float) -> bool:
        """Whether it has not expired."""
        return now < self.expires_at

    def is_due(self, now: float) -> bool:
        """Whether it is time to renew it in the background."""
        margin = min((self.expires_at - self.fetched_at) * REFRESH_SHARE, REFRESH_SECONDS)
        return now >= self.expires_at - margin


def _ttl(expires_in: Any) -> float:
    """The TTL in seconds; some servers omit `expires_in` or send it as text or 0."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = int(expires_in[:10])
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in >= 1:
        return DEFAULT_TTL
    return float(min(expires_in, MAX_TTL))


TIMEOUT_SECONDS = 10.0
"""Time limit of one token request."""
BODY_LIMIT = 64 * 1024
"""Largest response of a token server in bytes."""
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
)  # not 401: a wrong password is sent only once


class TokenRefused(Exception):
    """The token server denied a token for this credential and scope."""

    def __init__(self, status: int, server: str) -> None:
        super().__init__(f"token server {server} answered {status}")
        self.status = status
        self.server = server

    def copy(self) -> Self:
        """A copy: an error that is cached and raised again would grow its traceback each time."""
        return type(self)(self.status, self.server)


class TokenUnavailable(Exception):
    """The token server is unavailable, or sent no usable token.

    `retry_after` is in seconds; `local` means that a limit of scope-proxy prevented the request.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, local: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.local = local

    def copy(self) -> Self:
        """A copy."""
        return type(self)(self.reason, self.retry_after, local=self.local)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server, on behalf of an upstream."""

    url: URL
    realm_origin: Origin
    host: Origin
    service: str | None
    scope: Scope
    login: Login
    upstream: str
    method: Method | None = None
    """The configured method; None if the broker detects it."""


async def exchange(
    sessions: Sessions,
    request: TokenRequest,
    method: Method,
    *,
    clock: Callable[[], float] = time.monotonic,
    timeout: float = TIMEOUT_SECONDS,  # noqa: ASYNC109 - reported in the error
) -> Grant:
    """Send one token request; raises TokenRefused and TokenUnavailable. Redirects are not followed."""
    requested_at = clock()
    limit = CountedHostLimit(sessions.host_limit(request.realm_origin), request.upstream)
    with measured() as spent:
        try:
            async with asyncio.timeout(timeout), limit.admitted(Size.SMALL):
                status, body, retry_after = await _send(sessions, request, method)
        except TimeoutError:
            raise _timeout_error(request, spent, timeout) from None
        except QueueFull as error:
            raise TokenUnavailable(f"{_name(request)}: {error}", local=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(request, error) from error
    if status in _REFUSALS:
        raise TokenRefused(status, request.realm_origin.authority)
    if status != HTTPStatus.OK:  # the only status that carries a token
        raise TokenUnavailable(f"{_name(request)} answered {status}", parse_retry_after(retry_after))
    return _parse(request, body, requested_at)


def _timeout_error(request: TokenRequest, spent: UpstreamTime, seconds: float) -> TokenUnavailable:
    """The error of a timeout: local if the request waited in scope-proxy and not for the token server."""
    if spent.is_short_of(seconds):
        reason = f"the request to {_name(request)} waited too long for its turn in scope-proxy (maxConnections)"
        return TokenUnavailable(reason, local=True)
    return TokenUnavailable(f"{_name(request)} did not answer within {seconds:.0f} s")


def _unreachable(request: TokenRequest, error: aiohttp.ClientError | OSError) -> TokenUnavailable:
    if (refused := refused_address(error)) is not None:
        return TokenUnavailable(f"token server {refused}, which is blocked", local=is_own_limit(error))
    return TokenUnavailable(f"{_name(request)} {connection_trouble(error)[1]}", local=is_own_limit(error))


def other_method_may_work(refusal: TokenRefused) -> bool:
    """Whether to retry a refused GET with POST: servers that support only POST respond like this (ACR, AAD)."""
    return refusal.status in _OTHER_METHOD


def basic_authorization(login: Login) -> str:
    """The value of an Authorization header for Basic authentication."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()


def _outgoing(request: TokenRequest, method: Method) -> Outgoing:
    parameters = {"scope": request.scope.text}
    if request.service is not None:
        parameters["service"] = request.service
    headers: dict[str, str] = {"Accept": "application/json"}
    url, form = request.url, None
    if method == "get":
        # Keeps the realm's own query; built from a mapping and not from text, so no value can add a parameter.
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


def _parse(request: TokenRequest, body: bytes, requested_at: float) -> Grant:
    try:
        return Grant.parse(json.loads(body), requested_at)
    except (ValueError, RecursionError):
        raise TokenUnavailable(f"{_name(request)} answered 200 with something that is not JSON") from None
    except TokenInvalid as error:
        raise TokenUnavailable(f"{_name(request)}: {error}") from None


def _name(request: TokenRequest) -> str:
    return f"token server {request.realm_origin.authority}"


REFUSED_SECONDS = 30.0
"""How long a refusal is cached; a corrected password has another key, so it is tried at once."""
LONGEST_SECONDS = 60.0
"""Longest Retry-After of a token server that is honored."""
FAILURES_LIMIT = 20_000
"""Most failures that are cached."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: TokenRefused | TokenUnavailable
    until: float


class Failures:
    """Caches failed token requests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: TLRUCache[GrantKey, _Failure] = TLRUCache(
            FAILURES_LIMIT, ttu=lambda _key, failure, _now: failure.until, timer=clock
        )

    def get(self, key: GrantKey) -> TokenRefused | TokenUnavailable | None:
        """The cached failure, if there is one."""
        failure = self._failures.get(key)
        return None if failure is None else failure.error.copy()

    def add(self, key: GrantKey, error: TokenRefused | TokenUnavailable) -> None:
        """Cache a failure; one that may end at any moment (unavailable without Retry-After) is not cached."""
        seconds = REFUSED_SECONDS
        if isinstance(error, TokenUnavailable):
            if not error.retry_after:
                return
            seconds = min(error.retry_after, LONGEST_SECONDS)
        self._failures[key] = _Failure(error.copy(), self._clock() + seconds)
        _logger.warning("no token for %s: %s; next attempt in %.0f s at the earliest", key.scope, error, seconds)
