"""The token broker: one grant per (host, realm, service, credential, scope), shared by concurrent requests."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cachetools import LRUCache, TLRUCache, TTLCache
from yarl import URL

from proxy.auth.outward.exchange import (
    Failures,
    Grant,
    GrantKey,
    Method,
    TokenRefused,
    TokenRequest,
    TokenUnavailable,
    basic_authorization,
    exchange,
    other_method_may_work,
)
from proxy.auth.outward.realm import RealmRefused, judge_realm
from proxy.config.address import Origin
from proxy.config.model import Host
from proxy.observe.metrics import SCOPES, TOKEN_DURATION, TOKEN_REQUESTS, UPSTREAM_ERRORS, Bound
from proxy.observe.tracing import span
from proxy.oci.challenge import BASIC, Challenge
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope, outward_scope, parse_scopes
from proxy.transport.session import Sessions
from proxy.transport.singleflight import Background, SingleFlight

GRANTS_LIMIT = 20_000
"""Most grants that are cached."""
RENEWAL_SECONDS = 5.0
"""Shortest time between two attempts to renew a grant before it expires."""
CHALLENGES_LIMIT = 20_000
"""Most (host, repository) pairs whose challenge is cached."""

_TOKENS, _DURATIONS = Bound(TOKEN_REQUESTS), Bound(TOKEN_DURATION)
_logger = logging.getLogger(__name__)


class NoLogin(Exception):
    """The upstream requires a password and none is configured; the message names the setting."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who requests a token and for what: one repository of one upstream, with one credential."""

    origin: Origin
    """The endpoint's."""
    repository: str
    """The upstream repository, as the upstream's scope names it."""
    settings: Host
    """The settings of the endpoint's host."""
    upstream: str
    login: Login
    identity: str
    """Keeps its grants separate from those of other credentials."""
    scope: Literal["computed", "challenge"] = "computed"
    longest_use: float = math.inf
    """Longest time in seconds that a grant is used, even if it expires later."""
    is_client: bool = False
    """The credential is the client's own."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """A value for the Authorization header; `key` identifies its grant, None for Basic."""

    header: str = field(repr=False)
    key: GrantKey | None
    fetched_at: float
    expires_at: float = math.inf
    """On the monotonic clock; infinite for Basic."""


@dataclass(frozen=True, slots=True)
class _TokenSource:
    """A trusted token server, and the service and scope to request there."""

    url: URL
    realm_origin: Origin
    service: str | None
    scope: Scope


@dataclass(frozen=True, slots=True)
class _KnownChallenge:
    """A challenge with its token source; the source is None for Basic."""

    challenge: Challenge
    scope: Literal["computed", "challenge"]
    source: _TokenSource | None


class Broker:
    """Provides Authorization headers, from cached challenges and grants if possible."""

    def __init__(self, sessions: Sessions, background: Background, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._clock = clock
        self._grants: TLRUCache[GrantKey, Grant] = TLRUCache(
            GRANTS_LIMIT, ttu=lambda _key, grant, _now: grant.expires_at, timer=clock
        )
        self._challenges: LRUCache[tuple[Origin, str], _KnownChallenge] = LRUCache(CHALLENGES_LIMIT)
        """By repository: the realm may depend on it (Artifactory)."""
        self._methods: dict[Origin, Method] = {}  # by realm; only trusted realms, so there are few
        self._flights: SingleFlight[GrantKey, Grant] = SingleFlight(background)
        self._failures = Failures(clock)
        self._renewals: TTLCache[GrantKey, bool] = TTLCache(GRANTS_LIMIT, RENEWAL_SECONDS, clock)

    async def known_authorization(self, requester: Requester) -> Authorization | None:
        """The Authorization for a known challenge; None if the host has not sent one for this repository.

        Raises as `authorization_for` does.
        """
        basic_only = requester.settings.token_method == "basic"  # noqa: S105 - a method, not a secret
        if basic_only and requester.login.kind is LoginKind.PASSWORD:
            return _basic(requester)
        known = self._challenges.get((requester.origin, requester.repository))
        if known is None:
            return None
        source = known.source if known.scope == requester.scope else self._token_source(requester, known.challenge)
        return await self._authorize(requester, source)

    async def authorization_for(self, requester: Requester, challenge: Challenge) -> Authorization:
        """The Authorization for a challenge, which is cached.

        Raises RealmRefused, TokenRefused, TokenUnavailable and NoLogin.
        """
        source = self._token_source(requester, challenge, count=True)
        authorization = await self._authorize(requester, source)
        self._challenges[requester.origin, requester.repository] = _KnownChallenge(challenge, requester.scope, source)
        return authorization

    def drop(self, authorization: Authorization) -> None:
        """Drop a grant that the upstream no longer accepts."""
        if authorization.key is not None:
            current = self._grants.get(authorization.key)
            if current is not None and current.fetched_at == authorization.fetched_at:
                del self._grants[authorization.key]

    async def _authorize(self, requester: Requester, source: _TokenSource | None) -> Authorization:
        if source is None:
            return _basic(requester)
        key = GrantKey(requester.origin, str(source.url), source.service, requester.identity, source.scope)
        grant = await self._grant(key, _request(requester, source), requester.longest_use)
        return Authorization(f"Bearer {grant.token}", key, grant.fetched_at, grant.expires_at)

    async def _grant(self, key: GrantKey, request: TokenRequest, longest: float) -> Grant:
        grant, now = self._grants.get(key), self._clock()
        if grant is not None and grant.is_valid(now):
            _TOKENS[request.upstream, "cached"].inc()
            if grant.is_due(now) and key not in self._renewals:
                self._renewals[key] = True
                self._flights.launch(key, lambda: self._fetch(key, request, longest))
            return grant
        failure = self._failures.get(key)
        if failure is not None:
            _count_failure(request, failure)
            raise failure
        if self._flights.is_flying(key):
            _TOKENS[request.upstream, "joined"].inc()
        return await self._flights.run(key, lambda: self._fetch(key, request, longest))

    async def _fetch(self, key: GrantKey, request: TokenRequest, longest: float) -> Grant:
        try:
            name = request.realm_origin.authority
            with _DURATIONS[request.upstream,].time(), span("token", upstream=request.upstream, server=name):
                grant = (await self._exchange(request)).with_max_ttl(longest)
        except (TokenRefused, TokenUnavailable) as error:
            _count_failure(request, error)
            self._failures.add(key, error)
            raise
        _TOKENS[request.upstream, "fetched"].inc()
        _logger.debug("token for %s from %s", request.scope, request.realm_origin.authority)
        self._grants[key] = grant
        return grant

    async def _exchange(self, request: TokenRequest) -> Grant:
        """Request a token with the realm's known method, else with GET and, if that is refused, with POST."""
        method = self._known_method(request)
        if method is not None:
            return await self._request_once(request, method)
        try:
            grant = await self._request_once(request, "get")
        except TokenRefused as refusal:
            if request.login.kind is not LoginKind.PASSWORD or not other_method_may_work(refusal):
                raise
            try:
                grant = await self._request_once(request, "post")
            except (TokenRefused, TokenUnavailable):
                raise refusal from None  # most servers support GET: its status is more useful
            self._methods[request.realm_origin] = "post"
        else:
            self._methods[request.realm_origin] = "get"
        return grant

    async def _request_once(self, request: TokenRequest, method: Method) -> Grant:
        return await exchange(self._sessions, request, method, clock=self._clock)

    def _known_method(self, request: TokenRequest) -> Method | None:
        if request.login.kind is LoginKind.IDENTITY_TOKEN:
            return "post"
        if request.login.kind is LoginKind.ANONYMOUS:
            return "get"
        if request.method is not None:
            return request.method
        return self._methods.get(request.realm_origin)

    def _token_source(self, requester: Requester, challenge: Challenge, *, count: bool = False) -> _TokenSource | None:
        """The token source that a challenge names; None for Basic. Raises RealmRefused."""
        if challenge.scheme == BASIC:
            return None
        try:
            url, realm_origin = judge_realm(challenge.realm, requester.origin, requester.settings.realms)
        except RealmRefused:
            UPSTREAM_ERRORS.labels(requester.upstream, "realm_blocked").inc()
            raise
        outward = outward_scope(
            requester.repository, parse_scopes(challenge.scope), from_challenge=requester.scope == "challenge"
        )
        if count:
            replaced = "replaced" if outward.dropped else "added"
            SCOPES.labels(requester.upstream, "kept" if outward.kept else replaced).inc()
            SCOPES.labels(requester.upstream, "dropped").inc(len(outward.dropped))
            _logger.debug(
                "scope of %s: challenged %r, requested %s", requester.origin, challenge.scope, outward.requested
            )
        return _TokenSource(url, realm_origin, challenge.service, outward.requested)


def _request(requester: Requester, source: _TokenSource) -> TokenRequest:
    return TokenRequest(
        url=source.url,
        realm_origin=source.realm_origin,
        host=requester.origin,
        service=source.service,
        scope=source.scope,
        login=requester.login,
        upstream=requester.upstream,
        method=_configured_method(requester.settings),
    )


def _configured_method(settings: Host) -> Method | None:
    """The configured method of token requests; None if the broker detects it."""
    match settings.token_method:
        case "get" | "post" as method:
            return method
        case _:
            return None


def _count_failure(request: TokenRequest, error: TokenRefused | TokenUnavailable) -> None:
    """Count a request without a token; a cached failure counts too, because it also fails a pull."""
    _TOKENS[request.upstream, "denied" if isinstance(error, TokenRefused) else "error"].inc()


def _basic(requester: Requester) -> Authorization:
    if requester.login.kind is not LoginKind.PASSWORD:
        raise NoLogin(
            f"{requester.origin.authority} asks for a user name and password and there is none: "
            f'set hosts."{requester.origin.authority}".credentials'
        )
    return Authorization(basic_authorization(requester.login), None, 0.0)
