"""The token endpoint that clients see: their scopes are normalized, their own login is sealed into a token.

No upstream is asked here, so no scope of a client can reach one. What the login may pull is proven where content is
asked for. An answer has no `refresh_token`, though docker asks for one at login: docker then keeps the password, which
has to be shown upstream anyway, and nothing is handed out that clients would keep for good.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from proxy.auth.key_file import KeyFile
from proxy.auth.sealed import LoginTooLong, NoSealingKey
from proxy.auth.sealed_payload import Binding, Sealed
from proxy.config.listener import Clients
from proxy.metrics import CLIENT_SCOPES, CLIENT_TOKENS
from proxy.oci.errors import Denied, RegistryError, RegistryUnknown
from proxy.oci.scope import Scope, inward_scopes
from proxy.routing.table import Route, RouteTable
from proxy.server.clients import NoTokens
from proxy.server.token_request import ClientTokenRequest, TokenAsk, parse_token_request

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
