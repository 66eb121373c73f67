"""One token request: GET with Basic, or an OAuth2 POST, to a realm that has been judged."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from yarl import URL

from proxy.auth.grant import Grant, TokenInvalid
from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope
from proxy.transport.limits import CountedHostLimit, QueueFull, Size
from proxy.transport.retry import parse_retry_after
from proxy.transport.session import Outgoing, Sessions
from proxy.transport.trouble import connection_trouble, is_own_limit, refused_address
from proxy.transport.upstream_time import UpstreamTime, at_upstream, measured

TIMEOUT_SECONDS = 10.0
"""For one token request."""
BODY_LIMIT = 64 * 1024
"""Largest answer of a token server in bytes."""
CLIENT_ID = "scope-proxy"

Method = Literal["get", "post"]

_REFUSALS = frozenset({400, 401, 403, 404, 405, 406, 422, 501})
_OTHER_METHOD = frozenset({400, 404, 405, 501})  # not 401: a wrong password is sent once, not twice


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


async def exchange(sessions: Sessions, request: TokenRequest, method: Method) -> Grant:
    """Ask once; raises TokenRefused and TokenUnavailable. Redirects are not followed."""
    asked_at = time.monotonic()
    gate = CountedHostLimit(sessions.gate(request.realm_origin), request.upstream)
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
    if status != 200:  # noqa: PLR2004 - the one status that carries a token
        raise TokenUnavailable(f"{_name(request)} answered {status}", retry_after)
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
    parameters = {"scope": str(request.scope)}
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


async def _send(sessions: Sessions, request: TokenRequest, method: Method) -> tuple[int, bytes, float | None]:
    response = await sessions.request(_outgoing(request, method))
    try:
        body = await _read(request, response)
    finally:
        response.close() if not response.content.at_eof() else response.release()
    return response.status, body, parse_retry_after(response.headers.get("Retry-After"))


async def _read(request: TokenRequest, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    with at_upstream():
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise TokenUnavailable(f"{_name(request)} sent more than {BODY_LIMIT} bytes")
    return bytes(body)


def _parse(request: TokenRequest, body: bytes, asked_at: float) -> Grant:
    try:
        return Grant.parse(json.loads(body), asked_at)
    except (ValueError, RecursionError):
        raise TokenUnavailable(f"{_name(request)} answered 200 with something that is not JSON") from None
    except TokenInvalid as error:
        raise TokenUnavailable(f"{_name(request)}: {error}") from None


def _name(request: TokenRequest) -> str:
    return f"token server {request.realm_origin.authority}"
