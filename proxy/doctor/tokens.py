"""The token server: whether it is trusted, token requests for any scopes, and what its tokens grant."""

import asyncio
import base64
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from yarl import URL

from proxy.auth.outward.exchange import (
    BODY_LIMIT,
    CLIENT_ID,
    TIMEOUT_SECONDS,
    Grant,
    Method,
    TokenInvalid,
    TokenRefused,
    basic_authorization,
    other_method_may_work,
)
from proxy.auth.outward.realm import BUILT_IN_REALMS, RealmRefused, judge_realm
from proxy.config.address import Origin
from proxy.doctor.examination import Examination, Stopped
from proxy.doctor.report import Check
from proxy.oci.challenge import Challenge
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope
from proxy.transport.response import HttpResponse
from proxy.transport.session import Outgoing


def granted_actions(token: str, repository: str) -> frozenset[str] | None:
    """The actions that a JWT grants for a repository; None for an unreadable token."""
    claims = _claims(token)
    access = claims.get("access") if claims is not None else None
    if not isinstance(access, list):
        return None
    entries = (entry for entry in access if isinstance(entry, dict) and entry.get("name") == repository)
    listed = (entry.get("actions") for entry in entries)
    return frozenset(str(action) for actions in listed if isinstance(actions, list) for action in actions)


def _claims(token: str) -> dict[str, Any] | None:
    """The claims of a JWT (RFC 7519): the second of its three parts."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


@dataclass(frozen=True, slots=True)
class TokenServer:
    """A token server that is trusted."""

    url: URL
    origin: Origin
    service: str | None
    challenge: Challenge


def check_realm(exam: Examination, challenge: Challenge) -> TokenServer:
    """The token server of a Bearer challenge; raises Stopped where it is not trusted."""
    journal, upstream = exam.journal, exam.subject.origin
    trusted = exam.host.realms
    named = challenge.realm.partition("?")[0]
    try:
        url, origin = judge_realm(challenge.realm, upstream, trusted)
    except RealmRefused as error:
        seen = f"{exam.subject.host} names the token server {named}, which is not trusted: nothing was sent to it"
        advice = f"if it is the right one, {error.line}" if error.line else f"fix the registry: {error}"
        journal.failed(Check.REALM, seen, advice, realm=named)
        raise Stopped("not run: the token server is not trusted, and nothing was sent to it") from error
    why = _why(origin, upstream, trusted)
    if upstream.scheme == "https" and origin.scheme == "http":
        advice = "configure an https realm at the registry: passwords go there unencrypted"
        journal.warned(Check.REALM, f"the token server {origin} is trusted ({why}) and plain HTTP", advice, realm=named)
    else:
        journal.passed(Check.REALM, f"the token server {origin} is trusted: {why}", realm=named)
    return TokenServer(url, origin, challenge.service, challenge)


def _why(origin: Origin, upstream: Origin, trusted: Collection[str]) -> str:
    if origin == upstream:
        return "it is the registry's own origin"
    return "it is listed in realms" if origin.text in trusted else f"it is built in for {_built_in(origin)}"


def _built_in(origin: Origin) -> str:
    return next(upstream.authority for upstream, realm in BUILT_IN_REALMS.items() if realm == origin)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The token server's response."""

    status: int
    method: Method
    grant: Grant | None = field(repr=False)
    problem: str = ""
    """Why there is no token though the status is 200."""

    @property
    def summary(self) -> str:
        """The response in words."""
        return f"answers {self.status}{f', and {self.problem}' if self.problem else ''}"


async def request_token(exam: Examination, server: TokenServer, login: Login, scopes: Sequence[Scope]) -> TokenAnswer:
    """Request a token by the methods that a pull tries, until one is accepted; raises REQUEST_ERRORS."""
    answer = None
    for method in _methods(exam, login):
        answer = await request_token_by(exam, server, login, scopes, method)
        if not other_method_may_work(TokenRefused(answer.status, "")):
            break
    if answer is None:
        raise AssertionError("there is a method for every login")
    return answer


async def request_token_by(
    exam: Examination, server: TokenServer, login: Login, scopes: Sequence[Scope], method: Method
) -> TokenAnswer:
    """Send one request, each scope as its own parameter, as nodes do; raises REQUEST_ERRORS."""
    requested_at = time.monotonic()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        response = HttpResponse(await exam.sessions.request(_outgoing(exam, server, login, scopes, method)))
        body = await response.read_and_close(BODY_LIMIT)
    if response.status != HTTPStatus.OK:
        return TokenAnswer(response.status, method, None)
    try:
        grant = _parse(body, requested_at)
    except TokenInvalid as error:
        return TokenAnswer(response.status, method, None, str(error))
    exam.journal.hide(grant.token)
    return TokenAnswer(response.status, method, grant)


def _methods(exam: Examination, login: Login) -> Iterator[Method]:
    configured = exam.host.token_method
    if login.kind is LoginKind.IDENTITY_TOKEN or (configured == "post" and login.kind is LoginKind.PASSWORD):
        yield "post"
        return
    yield "get"
    if login.kind is LoginKind.PASSWORD and configured == "auto":
        yield "post"


def _outgoing(
    exam: Examination, server: TokenServer, login: Login, scopes: Sequence[Scope], method: Method
) -> Outgoing:
    texts = [str(scope) for scope in scopes]
    service = {} if server.service is None else {"service": server.service}
    headers, url, form = {"Accept": "application/json"}, server.url, None
    if method == "get":
        url = url.update_query({**service, **({"scope": texts} if texts else {})})
        if login.kind is LoginKind.PASSWORD:
            headers["Authorization"] = basic_authorization(login)
    else:
        scope = {"scope": " ".join(texts)} if texts else {}
        form = {**service, **scope, **_grant(login), "client_id": CLIENT_ID}
    upstream = exam.subject.origin
    named_by = None if server.origin == upstream else upstream
    return Outgoing(method.upper(), url, server.origin, headers, (exam.subject.upstream, "token"), form, named_by)


def _grant(login: Login) -> dict[str, str]:
    """The OAuth2 grant of a login (the token specification, its POST form)."""
    if login.kind is LoginKind.IDENTITY_TOKEN:
        return {"grant_type": "refresh_token", "refresh_token": login.secret}
    return {"grant_type": "password", "username": login.username, "password": login.secret}


def _parse(body: bytes, requested_at: float) -> Grant:
    if len(body) > BODY_LIMIT:
        raise TokenInvalid(f"the response is longer than {BODY_LIMIT} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise TokenInvalid("the response is not JSON") from None
    return Grant.parse(document, requested_at)
