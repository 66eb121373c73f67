"""Clients that pull with their own credentials (`upstream`), sent as a password or in a token of scope-proxy."""

import time
from collections.abc import Sequence

from aiohttp import web

from proxy.auth.inward.sealed_tokens import KeyFile, TokenExpired, TokenForged
from proxy.config.listener import Clients
from proxy.oci.errors import Denied, RegistryError, Unauthorized
from proxy.oci.login import ANONYMOUS_NAME, AuthMethod, Caller, Login, LoginKind, ProofPolicy
from proxy.oci.request import Operation, RegistryRequest
from proxy.routing.table import Route, RouteTable
from proxy.server.clients.checks import BASIC_CHALLENGE, CredentialInvalid, OtherScheme, parse_basic, parse_bearer
from proxy.server.clients.token_endpoint import BearerError, TokenEndpoint, binding

_LOGIN_REQUIRED = "this listener requires your own credentials for the registry, for example as an imagePullSecret"


def proof_policy(clients: Clients) -> ProofPolicy:
    """How long proofs are valid at a listener."""
    return ProofPolicy(clients.proof_age, clients.last_proof_age if clients.when_unreachable == "lastProof" else 0.0)


class OwnPasswords:
    """`challenge: basic`: each request carries the password; the node never requests a scope."""

    def __init__(self, clients: Clients) -> None:
        self._serves_anonymous = clients.allow_anonymous
        self._proofs = proof_policy(clients)

    async def identify(self, request: web.BaseRequest, pull: RegistryRequest) -> Caller:
        """The client with its login; raises Unauthorized if it is missing or malformed."""
        lines = _authorization(request)
        if not lines and not (self._serves_anonymous and pull.operation is not Operation.PING):
            raise Unauthorized(_LOGIN_REQUIRED, challenge=BASIC_CHALLENGE)
        try:
            login = parse_basic(lines)
        except CredentialInvalid as error:
            raise Unauthorized(str(error), challenge=BASIC_CHALLENGE) from None
        return Caller(_name(login), login, self._proofs, method=_method(login, "upstream"))

    def permit(self, route: Route, pull: RegistryRequest) -> None:
        """Permit every route: the upstream decides."""

    def client_error(self, request: web.BaseRequest, pull: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """401 only for a client without a credential: with one, containerd would retry six times."""
        if _authorization(request):
            return error
        return Unauthorized(error.reason, challenge=BASIC_CHALLENGE, detail=error.detail)


class OwnTokens:
    """`challenge: bearer`: clients get a sealed token from `/token`, which contains their login."""

    def __init__(self, clients: Clients, routes: RouteTable, keys: KeyFile, endpoint: TokenEndpoint) -> None:
        self._routes = routes
        self._keys = keys
        self._token_ttl = clients.token_life
        self._endpoint = endpoint
        self._proofs = proof_policy(clients)

    async def identify(self, request: web.BaseRequest, pull: RegistryRequest) -> Caller:
        """The client that the token was issued to; raises Unauthorized if it is missing or invalid."""
        try:
            token = parse_bearer(_authorization(request))
        except OtherScheme:
            token = None
        except CredentialInvalid as error:
            # Without `error` containerd sends the same token again.
            raise self._unauthorized(str(error), pull, self._registry(request, pull), "invalid_token") from None
        if token is None:
            raise self._unauthorized(_LOGIN_REQUIRED, pull, self._registry(request, pull))
        keys = await self._keys.current()
        try:
            sealed = keys.open(token, int(time.time()))
        except (TokenForged, TokenExpired) as error:
            raise self._unauthorized(str(error), pull, self._registry(request, pull), "invalid_token") from None
        if time.time() > sealed.issued_at + self._token_ttl:  # issued by another listener or an older configuration
            raise self._unauthorized("the token has expired", pull, self._registry(request, pull), "invalid_token")
        bound = frozenset((item.registry, item.repository) for item in sealed.bindings)
        return Caller(sealed.name, sealed.login, self._proofs, bound, _method(sealed.login, "token"))

    def permit(self, route: Route, pull: RegistryRequest) -> None:
        """Check that the token covers this repository; raises Unauthorized."""
        required = binding(route)
        if (required.registry, required.repository) not in (route.caller.bound or ()):
            raise self._unauthorized(
                f"the token does not cover {route.repository}", pull, route.registry, "insufficient_scope"
            )

    def client_error(self, request: web.BaseRequest, pull: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """The error unchanged: a new token would not help."""
        return error

    def _registry(self, request: web.BaseRequest, pull: RegistryRequest) -> str | None:
        """The requested registry: `/token` gets no `ns=` and learns the registry only from the challenge."""
        host = request.headers.get("Host")
        try:
            return self._routes.resolve(pull.name, namespace=pull.namespace, host=host).registry
        except RegistryError:
            return None

    def _unauthorized(
        self, reason: str, pull: RegistryRequest, registry: str | None, error: BearerError | None = None
    ) -> Unauthorized:
        return Unauthorized(reason, challenge=self._endpoint.challenge_for(pull.name, registry, error))


def _authorization(request: web.BaseRequest) -> Sequence[str]:
    return request.headers.getall("Authorization", [])


def _method(login: Login, method: AuthMethod) -> AuthMethod:
    return "none" if login.kind is LoginKind.ANONYMOUS else method


def _name(login: Login) -> str:
    return ANONYMOUS_NAME if login.kind is LoginKind.ANONYMOUS else login.name
