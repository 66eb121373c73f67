"""The token endpoint that clients see: their scopes are normalized, their own login is sealed into a token."""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qsl

from aiohttp import web

from proxy.auth.inward.sealed_tokens import Binding, KeyFile, LoginTooLong, NoSealingKey, Sealed
from proxy.config.listener import Clients
from proxy.observe.metrics import CLIENT_SCOPES, CLIENT_TOKENS
from proxy.oci.errors import Denied, NameInvalid, RegistryError, RegistryUnknown, Unauthorized, Unsupported
from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.oci.scope import Scope, inward_scopes
from proxy.routing.table import Route, RouteTable
from proxy.server.clients.checks import (
    BASIC_CHALLENGE,
    CredentialInvalid,
    NoTokens,
    OtherScheme,
    client_login,
    identity_login,
    parse_basic,
)
from proxy.server.record import RequestRecord
from proxy.server.respond import Responder

FORM_LIMIT = 64 * 1024
"""Bytes of a form."""
FIELDS_LIMIT = 64
"""Fields of a form, and parameters of a query."""
FORM_TYPE = "application/x-www-form-urlencoded"

_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ClientTokenRequest:
    """A request for a token, as it arrived; `authorization` has all lines of that header."""

    method: str
    query: Pairs = ()
    authorization: Sequence[str] = field(default=(), repr=False)
    content_type: str = ""
    form: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TokenAsk:
    """What is asked: a token for whom, for which service, for which scopes (each text may hold several)."""

    login: Login
    service: str | None
    scopes: tuple[str, ...]


def parse_token_request(request: ClientTokenRequest) -> TokenAsk:
    """Read a request for a token.

    Raises Unsupported for another method, NameInvalid for what is malformed or ambiguous, and Unauthorized for an
    Authorization header that is not Basic.
    """
    try:
        if request.method == "GET":
            return _ask(parse_basic(request.authorization), _limited(request.query))
        if request.method == "POST":
            fields = _form(request)
            return _ask(_posted_login(fields, request.authorization), fields)
    except OtherScheme:
        reason = "a token is asked for with user and password: the Authorization header is not Basic"
        raise Unauthorized(reason, challenge=BASIC_CHALLENGE) from None
    except CredentialInvalid as error:
        raise NameInvalid(f"the request for a token is refused: {error}") from None
    raise Unsupported("a token is asked for with GET or POST")


def _ask(login: Login, fields: Pairs) -> TokenAsk:
    return TokenAsk(login, _one(fields, "service") or None, tuple(value for name, value in fields if name == "scope"))


def _posted_login(fields: Pairs, authorization: Sequence[str]) -> Login:
    username, password = _one(fields, "username"), _one(fields, "password")
    refresh, grant = _one(fields, "refresh_token"), _one(fields, "grant_type")
    if refresh and (username or password):
        raise NameInvalid("the form holds two credentials: a password and a refresh_token")
    if grant == "password" and not refresh:
        posted = client_login(username, password)
    elif grant == "refresh_token" and not (username or password):
        posted = identity_login(refresh) if refresh else ANONYMOUS
    elif grant or username or password or refresh:
        raise NameInvalid(
            "the form's grant_type is neither password nor refresh_token with the fields that belong to it"
        )
    else:
        posted = ANONYMOUS
    header = parse_basic(authorization)
    if LoginKind.ANONYMOUS not in (posted.kind, header.kind):
        raise NameInvalid("the request holds two credentials: in its form and in its Authorization header")
    return header if posted.kind is LoginKind.ANONYMOUS else posted


def _one(fields: Pairs, name: str) -> str:
    """The value of a field; empty where it is missing."""
    values = [value for key, value in fields if key == name]
    if len(values) > 1:
        raise NameInvalid(f"{name} is given more than once")
    return values[0] if values else ""


def _limited(fields: Pairs) -> Pairs:
    if len(fields) > FIELDS_LIMIT:
        raise NameInvalid(f"the request for a token has more than {FIELDS_LIMIT} fields")
    return fields


def _form(request: ClientTokenRequest) -> Pairs:
    if request.content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise NameInvalid(f"a token is asked for with a form of type {FORM_TYPE}")
    if len(request.form) > FORM_LIMIT:
        raise NameInvalid(f"the form is larger than {FORM_LIMIT >> 10} KiB")
    if not request.form:
        return ()
    try:
        text = request.form.decode()
        fields = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_LIMIT
        )
    except ValueError:
        raise NameInvalid(f"the form is not name=value, in UTF-8, of at most {FIELDS_LIMIT} fields") from None
    if _BROKEN_PERCENT.search(text):
        raise NameInvalid("the form holds a percent sign that encodes nothing")
    return fields


SERVICE = "scope-proxy"
"""The service of a challenge that names no registry, such as that of `/v2/`."""
TOKEN_PATH = "/token"  # noqa: S105 - a path

BearerError = Literal["invalid_token", "insufficient_scope"]
TokenAnswer = dict[str, str | int]


def binding(route: Route) -> Binding:
    """What a token has to be bound to for this route: the registry, and the repository of the first endpoint."""
    return Binding(route.registry, route.targets[0].repository)


class TokenEndpoint:
    """The realm of a listener whose clients pull with their own credentials by bearer tokens."""

    def __init__(
        self, routes: RouteTable, keys: KeyFile, clients: Clients, now: Callable[[], float] = time.time
    ) -> None:
        if clients.external_url is None:
            raise ValueError("challenge: bearer needs externalURL, the address at which clients get tokens")
        self._routes = routes
        self._keys = keys
        self._realm = clients.external_url + TOKEN_PATH
        self._life = int(clients.token_life)
        self._now = now

    async def respond(self, request: ClientTokenRequest) -> TokenAnswer:
        """The answer to a request for a token, to be sent as JSON; raises RegistryError."""
        try:
            return await self.answer(parse_token_request(request))
        except RegistryError:
            CLIENT_TOKENS.labels("refused").inc()
            raise

    async def answer(self, ask: TokenAsk) -> TokenAnswer:
        """A token for the login that asks, bound to what its scopes come to; raises Denied where it does not fit."""
        issued_at = int(self._now())
        payload = Sealed(ask.login, self._bindings(ask), issued_at, issued_at + self._life)
        try:
            token = (await self._keys.current()).seal(payload)
        except LoginTooLong as error:
            raise Denied(str(error)) from None
        except NoSealingKey:
            raise NoTokens("scope-proxy gives out no tokens now: its tokenKeyFile holds no key") from None
        CLIENT_TOKENS.labels("issued").inc()
        return {
            "token": token,
            "access_token": token,
            "expires_in": self._life,
            "issued_at": datetime.fromtimestamp(issued_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def challenge_for(self, asked_name: str, registry: str | None, error: BearerError | None = None) -> str:
        """The WWW-Authenticate value that sends a client here.

        `asked_name` is the repository as it stands in the path, empty for `/v2/`. `registry` is the one that is meant;
        without it, the name has to say so when the token is asked for. `error` says what was wrong with the token that
        was sent: without it containerd sends the same one again.
        """
        parameters = {"realm": self._realm, "service": registry or SERVICE}
        scope = Scope.pull(asked_name)
        if asked_name and Scope.parse(str(scope)) == scope:
            parameters["scope"] = str(scope)
        if error is not None:
            parameters["error"] = error
        return "Bearer " + ",".join(f'{name}="{_quoted(value)}"' for name, value in parameters.items())

    def _bindings(self, ask: TokenAsk) -> tuple[Binding, ...]:
        inward = inward_scopes(ask.scopes, lambda name: self._binding(name, ask.service))
        for outcome, count in (("kept", len(inward.kept)), ("merged", inward.merged), ("dropped", inward.dropped)):
            CLIENT_SCOPES.labels(outcome).inc(count)
        return inward.kept

    def _binding(self, name: str, service: str | None) -> Binding | None:
        try:
            return binding(self._route(name, service))
        except RegistryError:
            return None

    def _route(self, name: str, service: str | None) -> Route:
        if service not in (None, SERVICE):
            try:
                return self._routes.resolve(name, namespace=service)
            except RegistryUnknown:
                pass  # the name itself may say which registry is meant
        return self._routes.resolve(name)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749, section 5.1: nobody on the way keeps a token."""


class TokenHandler:
    """Answers the requests for tokens of one listener."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint

    async def __call__(
        self, request: web.BaseRequest, body: bytes, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        """A token, or why there is none; raises RegistryError."""
        record.operation = "token"
        asked = ClientTokenRequest(
            request.method,
            tuple(request.query.items()),
            request.headers.getall("Authorization", []),
            request.headers.get("Content-Type", ""),
            body,
        )
        answer = await self._endpoint.respond(asked)
        return await responder.whole(json.dumps(answer).encode(), _HEADERS)
