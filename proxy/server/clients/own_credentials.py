"""Clients that pull with credentials of their own (`upstream`): asked for a password, or for a token of ours."""

import time
from collections.abc import Sequence

from aiohttp import web

from proxy.auth.inward.sealed_tokens import KeyFile, TokenExpired, TokenForged
from proxy.config.listener import Clients
from proxy.oci.errors import Denied, RegistryError, Unauthorized
from proxy.oci.login import ANONYMOUS_NAME, Caller, Login, LoginKind, ProofPolicy
from proxy.oci.request import Operation, RegistryRequest
from proxy.routing.table import Route, RouteTable
from proxy.server.clients.checks import BASIC_CHALLENGE, CredentialInvalid, OtherScheme, parse_basic, parse_bearer
from proxy.server.clients.token_endpoint import BearerError, TokenEndpoint, binding

_WHO = "this listener serves you by your own credentials for the registry: log in with them (an imagePullSecret)"


def proof_policy(clients: Clients) -> ProofPolicy:
    """How long proofs hold at a listener."""
    return ProofPolicy(clients.proof_age, clients.last_proof_age if clients.when_unreachable == "lastProof" else 0.0)


class OwnPasswords:
    """`challenge: basic`: the password comes with each request, and no scope is ever seen on the node's side."""

    def __init__(self, clients: Clients) -> None:
        self._serves_anonymous = clients.allow_anonymous
        self._proofs = proof_policy(clients)

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:
        """The client with its login; raises Unauthorized where it sends none, or one that cannot be read."""
        lines = _authorization(request)
        if not lines and not (self._serves_anonymous and asked.operation is not Operation.PING):
            raise Unauthorized(_WHO, challenge=BASIC_CHALLENGE)
        try:
            login = parse_basic(lines)
        except CredentialInvalid as error:
            raise Unauthorized(str(error), challenge=BASIC_CHALLENGE) from None
        return Caller(_name(login), login, self._proofs)

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """The upstream judges."""

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """Who sent no credential is asked for one; asking again would be answered six times."""
        if _authorization(request):
            return error
        return Unauthorized(error.reason, challenge=BASIC_CHALLENGE, detail=error.detail)


class OwnTokens:
    """`challenge: bearer`: clients get a sealed token of `/token`, which carries their login."""

    def __init__(self, clients: Clients, routes: RouteTable, keys: KeyFile, endpoint: TokenEndpoint) -> None:
        self._routes = routes
        self._keys = keys
        self._life = clients.token_life
        self._endpoint = endpoint
        self._proofs = proof_policy(clients)

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:
        """The client that the token is for; raises Unauthorized where it is not good."""
        try:
            token = parse_bearer(_authorization(request))
        except OtherScheme:
            token = None
        except CredentialInvalid as error:
            # Without `error` containerd sends the same token again.
            raise self._ask(str(error), asked, self._registry(request, asked), "invalid_token") from None
        if token is None:
            raise self._ask(_WHO, asked, self._registry(request, asked))
        keys = await self._keys.current()
        try:
            sealed = keys.open(token, int(time.time()))
        except (TokenForged, TokenExpired) as error:
            raise self._ask(str(error), asked, self._registry(request, asked), "invalid_token") from None
        if time.time() > sealed.issued_at + self._life:  # another listener, or an older configuration, gave it
            raise self._ask("the token has expired", asked, self._registry(request, asked), "invalid_token")
        bound = frozenset((item.registry, item.repository) for item in sealed.bindings)
        return Caller(sealed.name, sealed.login, self._proofs, bound)

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """Make sure that the token is for this repository; raises Unauthorized."""
        wanted = binding(route)
        if (wanted.registry, wanted.repository) not in (route.caller.bound or ()):
            raise self._ask(f"the token is not for {route.repository}", asked, route.registry, "insufficient_scope")

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """A new token would not help."""
        return error

    def _registry(self, request: web.BaseRequest, asked: RegistryRequest) -> str | None:
        """The registry that is meant: `/token` learns of it by the challenge alone, where no `ns=` comes."""
        host = request.headers.get("Host")
        try:
            return self._routes.resolve(asked.name, namespace=asked.namespace, host=host).registry
        except RegistryError:
            return None

    def _ask(
        self, reason: str, asked: RegistryRequest, registry: str | None, error: BearerError | None = None
    ) -> Unauthorized:
        return Unauthorized(reason, challenge=self._endpoint.challenge_for(asked.name, registry, error))


def _authorization(request: web.BaseRequest) -> Sequence[str]:
    return request.headers.getall("Authorization", [])


def _name(login: Login) -> str:
    return ANONYMOUS_NAME if login.kind is LoginKind.ANONYMOUS else login.name
