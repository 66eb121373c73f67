"""The token endpoint for clients: normalizes their scopes and seals their login into a token."""

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
"""Maximum bytes of a form."""
FIELDS_LIMIT = 64
"""Maximum fields of a form or parameters of a query."""
FORM_TYPE = "application/x-www-form-urlencoded"

_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ClientTokenRequest:
    """A token request as received; `authorization` has the values of all Authorization headers."""

    method: str
    query: Pairs = ()
    authorization: Sequence[str] = field(default=(), repr=False)
    content_type: str = ""
    form: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ParsedTokenRequest:
    """A parsed token request; each text of `scopes` may contain several scopes."""

    login: Login
    service: str | None
    scopes: tuple[str, ...]


def parse_token_request(request: ClientTokenRequest) -> ParsedTokenRequest:
    """Parse a token request.

    Raises Unsupported for a method other than GET and POST, NameInvalid if it is malformed or ambiguous, and
    Unauthorized for an Authorization header that is not Basic.
    """
    try:
        if request.method == "GET":
            return _parsed_request(parse_basic(request.authorization), _limited(request.query))
        if request.method == "POST":
            fields = _form(request)
            return _parsed_request(_posted_login(fields, request.authorization), fields)
    except OtherScheme:
        reason = "a token request requires user and password: the Authorization header is not Basic"
        raise Unauthorized(reason, challenge=BASIC_CHALLENGE) from None
    except CredentialInvalid as error:
        raise NameInvalid(f"invalid token request: {error}") from None
    raise Unsupported("a token request must use GET or POST")


def _parsed_request(login: Login, fields: Pairs) -> ParsedTokenRequest:
    return ParsedTokenRequest(
        login, _one(fields, "service") or None, tuple(value for name, value in fields if name == "scope")
    )


def _posted_login(fields: Pairs, authorization: Sequence[str]) -> Login:
    username, password = _one(fields, "username"), _one(fields, "password")
    refresh, grant = _one(fields, "refresh_token"), _one(fields, "grant_type")
    if refresh and (username or password):
        raise NameInvalid("the form contains two credentials: a password and a refresh_token")
    if grant == "password" and not refresh:
        posted = client_login(username, password)
    elif grant == "refresh_token" and not (username or password):
        posted = identity_login(refresh) if refresh else ANONYMOUS
    elif grant or username or password or refresh:
        raise NameInvalid("grant_type must be password with username and password, or refresh_token with refresh_token")
    else:
        posted = ANONYMOUS
    header = parse_basic(authorization)
    if LoginKind.ANONYMOUS not in (posted.kind, header.kind):
        raise NameInvalid("the request contains two credentials: in the form and in the Authorization header")
    return header if posted.kind is LoginKind.ANONYMOUS else posted


def _one(fields: Pairs, name: str) -> str:
    """The value of a field; empty if missing."""
    values = [value for key, value in fields if key == name]
    if len(values) > 1:
        raise NameInvalid(f"{name} is given more than once")
    return values[0] if values else ""


def _limited(fields: Pairs) -> Pairs:
    if len(fields) > FIELDS_LIMIT:
        raise NameInvalid(f"the token request has more than {FIELDS_LIMIT} fields")
    return fields


def _form(request: ClientTokenRequest) -> Pairs:
    if request.content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise NameInvalid(f"the form of a token request must be of type {FORM_TYPE}")
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
        raise NameInvalid(f"the form is not name=value pairs in UTF-8 with at most {FIELDS_LIMIT} fields") from None
    if _BROKEN_PERCENT.search(text):
        raise NameInvalid("the form contains an invalid percent encoding")
    return fields


SERVICE = "scope-proxy"
"""The service in a challenge without registry, such as that of `/v2/`."""
TOKEN_PATH = "/token"  # noqa: S105 - a path

BearerError = Literal["invalid_token", "insufficient_scope"]
TokenResponseBody = dict[str, str | int]


def binding(route: Route) -> Binding:
    """What a token must be bound to for this route: the registry, and the repository of the first endpoint."""
    return Binding(route.registry, route.targets[0].repository)


class TokenEndpoint:
    """The realm of a listener with `challenge: bearer`."""

    def __init__(
        self, routes: RouteTable, keys: KeyFile, clients: Clients, now: Callable[[], float] = time.time
    ) -> None:
        if clients.external_url is None:
            raise ValueError("challenge: bearer requires externalURL, the address at which clients request tokens")
        self._routes = routes
        self._keys = keys
        self._realm = clients.external_url + TOKEN_PATH
        self._ttl = int(clients.token_life)
        self._now = now

    async def respond(self, request: ClientTokenRequest) -> TokenResponseBody:
        """The response to a token request, to be sent as JSON; raises RegistryError."""
        try:
            return await self.issue(parse_token_request(request))
        except RegistryError:
            CLIENT_TOKENS.labels("refused").inc()
            raise

    async def issue(self, request: ParsedTokenRequest) -> TokenResponseBody:
        """A token with the login of the request, bound to its normalized scopes; raises Denied if it is too long."""
        issued_at = int(self._now())
        payload = Sealed(request.login, self._bindings(request), issued_at, issued_at + self._ttl)
        try:
            token = (await self._keys.current()).seal(payload)
        except LoginTooLong as error:
            raise Denied(str(error)) from None
        except NoSealingKey:
            raise NoTokens("scope-proxy cannot issue tokens: its tokenKeyFile contains no key") from None
        CLIENT_TOKENS.labels("issued").inc()
        return {
            "token": token,
            "access_token": token,
            "expires_in": self._ttl,
            "issued_at": datetime.fromtimestamp(issued_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def challenge_for(self, name: str, registry: str | None, error: BearerError | None = None) -> str:
        """The WWW-Authenticate value that sends a client to this endpoint.

        `name` is the repository in the path, empty for `/v2/`. `registry` is the requested registry; if None, the scope
        in the token request must name it. `error` says why the sent token is invalid: without it containerd sends the
        same token again.
        """
        parameters = {"realm": self._realm, "service": registry or SERVICE}
        scope = Scope.pull(name)
        if name and Scope.parse(str(scope)) == scope:
            parameters["scope"] = str(scope)
        if error is not None:
            parameters["error"] = error
        return "Bearer " + ",".join(f'{key}="{_quoted(value)}"' for key, value in parameters.items())

    def _bindings(self, request: ParsedTokenRequest) -> tuple[Binding, ...]:
        inward = inward_scopes(request.scopes, lambda name: self._binding(name, request.service))
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
                pass  # the name may start with the registry
        return self._routes.resolve(name)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749, section 5.1: tokens must not be cached."""


class TokenHandler:
    """Handles the token requests of one listener."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint

    async def __call__(
        self, request: web.BaseRequest, body: bytes, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        """The response with a token; raises RegistryError."""
        record.operation = "token"
        token_request = ClientTokenRequest(
            request.method,
            tuple(request.query.items()),
            request.headers.getall("Authorization", []),
            request.headers.get("Content-Type", ""),
            body,
        )
        response = await self._endpoint.respond(token_request)
        return await responder.whole(json.dumps(response).encode(), _HEADERS)
