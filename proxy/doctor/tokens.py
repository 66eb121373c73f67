"""Asking a token server for any scopes: what a pull never does, and a strict server is known by.

A pull goes through `auth/exchange.py`, which can ask for nothing but one scope.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from proxy.auth.exchange import (
    BODY_LIMIT,
    CLIENT_ID,
    TIMEOUT_SECONDS,
    Method,
    TokenRefused,
    basic_authorization,
    other_method_may_work,
)
from proxy.auth.grant import Grant, TokenInvalid
from proxy.doctor.examination import Examination, read
from proxy.doctor.realms import TokenServer
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope
from proxy.transport.session import Outgoing

OK = 200


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the token server said."""

    status: int
    method: Method
    grant: Grant | None = field(repr=False)
    problem: str = ""
    """Why there is no token though the status is 200."""

    @property
    def told(self) -> str:
        """In words."""
        return f"answers {self.status}{f', and {self.problem}' if self.problem else ''}"


async def ask_token(exam: Examination, server: TokenServer, login: Login, scopes: Sequence[Scope]) -> TokenAnswer:
    """Ask by the methods that a pull would try, until one is answered; raises what is in TROUBLE."""
    answer = None
    for method in _methods(exam, login):
        answer = await ask_by(exam, server, login, scopes, method)
        if not other_method_may_work(TokenRefused(answer.status, "")):
            break
    if answer is None:
        raise AssertionError("there is a method for every login")
    return answer


async def ask_by(
    exam: Examination, server: TokenServer, login: Login, scopes: Sequence[Scope], method: Method
) -> TokenAnswer:
    """Ask once, each scope as a parameter of its own, as nodes do; raises what is in TROUBLE."""
    asked_at = time.monotonic()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        response = await exam.sessions.request(_outgoing(exam, server, login, scopes, method))
        body = await read(response, BODY_LIMIT)
    if response.status != OK:
        return TokenAnswer(response.status, method, None)
    try:
        grant = _parse(body, asked_at)
    except TokenInvalid as error:
        return TokenAnswer(OK, method, None, str(error))
    exam.journal.hide(grant.token)
    return TokenAnswer(OK, method, grant)


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


def _parse(body: bytes, asked_at: float) -> Grant:
    if len(body) > BODY_LIMIT:
        raise TokenInvalid(f"its answer is longer than {BODY_LIMIT} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise TokenInvalid("its answer is not JSON") from None
    return Grant.parse(document, asked_at)
