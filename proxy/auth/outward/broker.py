"""The token broker: one grant per (host, realm, service, credential, scope), asked for once however many wait."""

import logging
import math
import time
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
"""Most grants that are kept."""
RENEWAL_SECONDS = 5.0
"""How long after one attempt to renew a grant ahead of its end the next one comes, if it failed."""
CHALLENGES_LIMIT = 20_000
"""Most (host, repository) pairs whose challenge is remembered."""

_TOKENS, _DURATIONS = Bound(TOKEN_REQUESTS), Bound(TOKEN_DURATION)
_logger = logging.getLogger(__name__)


class NoLogin(Exception):
    """The upstream asks for a password, and none is configured; the message says where to put one."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who requests a token and for what: one repository of one upstream, with one credential."""

    origin: Origin
    """The endpoint's."""
    repository: str
    """The upstream repository, as the upstream's scope names it."""
    settings: Host
    """How to talk to the endpoint's host."""
    upstream: str
    login: Login
    identity: str
    """By which its grants are kept apart."""
    scope: Literal["computed", "challenge"] = "computed"
    longest_use: float = math.inf
    """Seconds for which a grant is used at the most, whatever its server says."""
    is_client: bool = False
    """The credential is the client's own."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """A value for the Authorization header; `key` tells which grant it is, None for Basic."""

    header: str = field(repr=False)
    key: GrantKey | None
    fetched_at: float
    expires_at: float = math.inf
    """On the monotonic clock; never for Basic."""


@dataclass(frozen=True, slots=True)
class _TokenSource:
    """A token server that has been judged, and what is requested there."""

    url: URL
    realm_origin: Origin
    service: str | None
    scope: Scope


@dataclass(frozen=True, slots=True)
class _Answered:
    """A challenge that has been answered; without a source by Basic."""

    challenge: Challenge
    scope: Literal["computed", "challenge"]
    source: _TokenSource | None


class Broker:
    """Gives Authorization headers, from memory where it can."""

    def __init__(self, sessions: Sessions, background: Background) -> None:
        self._sessions = sessions
        self._grants: TLRUCache[GrantKey, Grant] = TLRUCache(
            GRANTS_LIMIT, ttu=lambda _key, grant, _now: grant.expires_at, timer=time.monotonic
        )
        self._challenges: LRUCache[tuple[Origin, str], _Answered] = LRUCache(CHALLENGES_LIMIT)
        """By repository: the realm may depend on it (Artifactory)."""
        self._methods: dict[Origin, Method] = {}  # by realm; realms are judged, so there are few
        self._flights: SingleFlight[GrantKey, Grant] = SingleFlight(background)
        self._failures = Failures()
        self._renewals: TTLCache[GrantKey, bool] = TTLCache(GRANTS_LIMIT, RENEWAL_SECONDS)

    async def remembered(self, asker: Requester) -> Authorization | None:
        """What the host is known to want; None where it has not been asked yet and may want nothing.

        Raises as `answer` does.
        """
        basic_only = asker.settings.token_method == "basic"  # noqa: S105 - a method, not a secret
        if basic_only and asker.login.kind is LoginKind.PASSWORD:
            return _basic(asker)
        known = self._challenges.get((asker.origin, asker.repository))
        if known is None:
            return None
        source = known.source if known.scope == asker.scope else self._judge(asker, known.challenge)
        return await self._authorize(asker, source)

    async def answer(self, asker: Requester, challenge: Challenge) -> Authorization:
        """Answer a challenge, and remember it.

        Raises RealmRefused, TokenRefused, TokenUnavailable and NoLogin.
        """
        source = self._judge(asker, challenge, count=True)
        authorization = await self._authorize(asker, source)
        self._challenges[asker.origin, asker.repository] = _Answered(challenge, asker.scope, source)
        return authorization

    def drop(self, authorization: Authorization) -> None:
        """Forget a grant that the upstream no longer takes."""
        if authorization.key is not None:
            current = self._grants.get(authorization.key)
            if current is not None and current.fetched_at == authorization.fetched_at:
                del self._grants[authorization.key]

    async def _authorize(self, asker: Requester, source: _TokenSource | None) -> Authorization:
        if source is None:
            return _basic(asker)
        key = GrantKey(asker.origin, str(source.url), source.service, asker.identity, source.scope)
        grant = await self._grant(key, _request(asker, source), asker.longest_use)
        return Authorization(f"Bearer {grant.token}", key, grant.fetched_at, grant.expires_at)

    async def _grant(self, key: GrantKey, request: TokenRequest, longest: float) -> Grant:
        grant = self._grants.get(key)
        if grant is not None and grant.is_valid:
            _TOKENS[request.upstream, "cached"].inc()
            if grant.is_due and key not in self._renewals:
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
                grant = (await self._exchange(request)).limited(longest)
        except (TokenRefused, TokenUnavailable) as error:
            _count_failure(request, error)
            self._failures.add(key, error)
            raise
        _TOKENS[request.upstream, "fetched"].inc()
        _logger.debug("token for %s from %s", request.scope, request.realm_origin.authority)
        self._grants[key] = grant
        return grant

    async def _exchange(self, request: TokenRequest) -> Grant:
        """Ask by the method that the realm is known for, else GET and, where that is refused, POST."""
        method = self._known_method(request)
        if method is not None:
            return await exchange(self._sessions, request, method)
        try:
            grant = await exchange(self._sessions, request, "get")
        except TokenRefused as refusal:
            if request.login.kind is not LoginKind.PASSWORD or not other_method_may_work(refusal):
                raise
            try:
                grant = await exchange(self._sessions, request, "post")
            except (TokenRefused, TokenUnavailable):
                raise refusal from None  # GET is what most servers know: its status says more
            self._methods[request.realm_origin] = "post"
        else:
            self._methods[request.realm_origin] = "get"
        return grant

    def _known_method(self, request: TokenRequest) -> Method | None:
        if request.login.kind is LoginKind.IDENTITY_TOKEN:
            return "post"
        if request.login.kind is LoginKind.ANONYMOUS:
            return "get"
        if request.method is not None:
            return request.method
        return self._methods.get(request.realm_origin)

    def _judge(self, asker: Requester, challenge: Challenge, *, count: bool = False) -> _TokenSource | None:
        """Where a challenge has tokens requested, and for what; None where it wants Basic. Raises RealmRefused."""
        if challenge.scheme == BASIC:
            return None
        try:
            url, realm_origin = judge_realm(challenge.realm, asker.origin, asker.settings.realms)
        except RealmRefused:
            UPSTREAM_ERRORS.labels(asker.upstream, "realm_blocked").inc()
            raise
        outward = outward_scope(
            asker.repository, parse_scopes(challenge.scope), from_challenge=asker.scope == "challenge"
        )
        if count:
            replaced = "replaced" if outward.dropped else "added"
            SCOPES.labels(asker.upstream, "kept" if outward.kept else replaced).inc()
            SCOPES.labels(asker.upstream, "dropped").inc(len(outward.dropped))
            _logger.debug("scope of %s: challenged %r, asked for %s", asker.origin, challenge.scope, outward.requested)
        return _TokenSource(url, realm_origin, challenge.service, outward.requested)


def _request(asker: Requester, source: _TokenSource) -> TokenRequest:
    return TokenRequest(
        url=source.url,
        realm_origin=source.realm_origin,
        host=asker.origin,
        service=source.service,
        scope=source.scope,
        login=asker.login,
        upstream=asker.upstream,
        method=_configured_method(asker.settings),
    )


def _configured_method(settings: Host) -> Method | None:
    """The one way to request tokens that the configuration names; None where it is learned."""
    match settings.token_method:
        case "get" | "post" as method:
            return method
        case _:
            return None


def _count_failure(request: TokenRequest, error: TokenRefused | TokenUnavailable) -> None:
    """A token is not to be had: just now, or for a while by what is remembered; both keep somebody from pulling."""
    _TOKENS[request.upstream, "denied" if isinstance(error, TokenRefused) else "error"].inc()


def _basic(asker: Requester) -> Authorization:
    if asker.login.kind is not LoginKind.PASSWORD:
        raise NoLogin(
            f"{asker.origin.authority} asks for a user name and password and there is none: "
            f'set hosts."{asker.origin.authority}".credentials'
        )
    return Authorization(basic_authorization(asker.login), None, 0.0)
