"""One request to one endpoint, with the credential that it takes: challenge, token, retry, next credential."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from cachetools import LRUCache, TTLCache

from proxy.auth.outward.broker import Authorization, Broker, NoLogin, Requester
from proxy.auth.outward.credential_chain import CredentialChain
from proxy.auth.outward.credentials import CredentialError
from proxy.auth.outward.exchange import TokenRefused, TokenUnavailable
from proxy.auth.outward.realm import RealmRefused
from proxy.config.address import Origin
from proxy.observe.metrics import UPSTREAM_REFUSED
from proxy.oci.challenge import choose_challenge, parse_challenges
from proxy.oci.errors import Denied
from proxy.oci.login import Login, LoginKind
from proxy.routing.table import Route, Target
from proxy.upstream.errors import CredentialUnreadable, RealmUntrusted, Refused, Unavailable
from proxy.upstream.send import REFUSALS, EndpointRequest, RequestSender, UpstreamResponse

FAILED_LIMIT = 3
"""Refusals by 401 of one credential at one host ..."""
FAILED_SECONDS = 30.0
"""... within so many seconds, after which it is not tried there again until they are over."""
TRUST_SECONDS = 600.0
"""How long a credential that has worked is tried whatever is refused to it."""
LOGINS_LIMIT = 20_000
"""Most entries of each cache of login results."""

_Key = tuple[Origin, str]


class FailedLogins:
    """Counts them, for each host and credential."""

    def __init__(self) -> None:
        self._failed: TTLCache[_Key, tuple[int, str]] = TTLCache(LOGINS_LIMIT, FAILED_SECONDS)
        self._worked: TTLCache[_Key, bool] = TTLCache(LOGINS_LIMIT, TRUST_SECONDS)

    def refusal(self, requester: Requester) -> str | None:
        """Why the credential was refused, where it is not tried now; it names nothing that was requested."""
        count, reason = self._failed.get(_key(requester), (0, ""))
        return reason if count >= FAILED_LIMIT and _is_counted(requester) else None

    def add(self, requester: Requester, reason: str) -> None:
        """The credential was refused."""
        key = _key(requester)
        if _is_counted(requester) and key not in self._worked:
            count, _ = self._failed.get(key, (0, ""))
            self._failed[key] = count + 1, reason

    def clear(self, requester: Requester) -> None:
        """The credential has worked."""
        if _is_counted(requester):
            self._worked[_key(requester)] = True
            self._failed.pop(_key(requester), None)


def _is_counted(requester: Requester) -> bool:
    """Whether a client sent a credential."""
    return requester.is_client and requester.login.kind is not LoginKind.ANONYMOUS


def _key(requester: Requester) -> _Key:
    return requester.origin, requester.identity


REFUSED_SECONDS = 10.0
"""How long a refusal of the registry stands: nodes that retry, or are hostile, must not lock an account."""
FRESH_GRANT_SECONDS = 60.0
"""Seconds for which a grant is considered valid although a HEAD, whose response has no body, fails with 400 or 403."""

_INVALID_TOKEN = "invalid_token"  # noqa: S105 - what a challenge says of one
_EXPIRED = ("expired", "reauthenticate", _INVALID_TOKEN, "token is invalid")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    text: str


class Authorizer:
    """Sends requests on with the right authorization; remembers which credential a repository took."""

    def __init__(
        self,
        broker: Broker,
        credentials: CredentialChain,
        sender: RequestSender,
        *,
        clock: Callable[[], float] = time.monotonic,
        fresh_grant_seconds: float = FRESH_GRANT_SECONDS,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._fresh_grant_seconds = fresh_grant_seconds
        self._broker = broker
        self._credentials = credentials
        self._worked: LRUCache[tuple[Origin, str], str] = LRUCache(LOGINS_LIMIT)
        self._failed_logins = FailedLogins()
        self._refused: TTLCache[tuple[str, str, str], str] = TTLCache(LOGINS_LIMIT, REFUSED_SECONDS)
        """Why: without the names of what was requested, which are those of the current request."""

    async def send(self, request: EndpointRequest) -> UpstreamResponse:
        """The response, whatever its status but 401 and 403.

        For a client with a credential of its own no other is tried.
        Raises Refused where no credential is taken and Unavailable where a token or a credential cannot be had.
        """
        target, suffix = request.target, request.wanted.suffix
        refusals: list[str] = []
        meaning: type[Denied] = Denied
        requesters = await self._requesters(target, request.route)
        for requester in requesters:
            key = (target.key, suffix, requester.identity)
            known = self._refused.get(key) or self._failed_logins.refusal(requester)
            if known:
                refusals.append(_refusal_text(requester, known))
                continue
            try:
                answer = await self._send_as(requester, request)
            except RealmRefused as error:  # whoever asks
                refusals.append(str(error))
                meaning = RealmUntrusted
            except (TokenRefused, NoLogin) as error:
                refusals.append(_refusal_text(requester, _advice(requester, error)))
                if isinstance(error, TokenRefused) and error.status == HTTPStatus.UNAUTHORIZED:
                    self._failed_logins.add(requester, str(error))
            except TokenUnavailable as error:
                refusal = _refusal_text(requester, str(error))
                raise Unavailable(refusal, retry_after=error.retry_after, local=error.local) from error
            else:
                if isinstance(answer, UpstreamResponse):
                    self._note_success(requester)
                    answer.login = requester.login
                    return answer
                reason = f"{target.endpoint.origin.authority} answered {answer.status}"
                self._refused[key] = reason
                refusals.append(_refusal_text(requester, reason))
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    self._failed_logins.add(requester, reason)
        _logger.info(
            "refused (%s): %s", ", ".join(requester.login.name for requester in requesters), "; ".join(refusals)
        )
        _count_refused(request.route)
        raise Refused(refusals[0], meaning)

    def _note_success(self, requester: Requester) -> None:
        if requester.is_client:
            self._failed_logins.clear(requester)
        else:
            self._worked[requester.origin, requester.repository] = requester.identity

    async def _requesters(self, target: Target, route: Route) -> list[Requester]:
        caller = route.caller
        if caller.login is not None:
            requester = _requester(target, route, caller.login, caller.identity)
            return [replace(requester, longest_use=caller.proofs.age, is_client=True)]
        return [_requester(target, route, login, login.identity) for login in await self._logins(target)]

    async def _logins(self, target: Target) -> list[Login]:
        origin = target.endpoint.origin
        try:
            logins = await self._credentials.logins(origin, target.repository)
        except CredentialError as error:
            raise Unavailable(str(error), error=CredentialUnreadable) from error
        worked = self._worked.get((origin, target.repository))
        return sorted(logins, key=lambda login: login.identity != worked)

    async def _send_as(self, requester: Requester, request: EndpointRequest) -> UpstreamResponse | _Refusal:
        """One credential: what is remembered, else the challenge; a dead grant is replaced.

        So is one that the registry calls dead at its first use, once: it was revoked on its way to us.
        """
        used = await self._broker.known_authorization(requester)
        response = await self._send_with(used, request)
        refusal = await _refusal(response)
        if refusal is None:
            return response
        if used is not None:
            if not self._may_be_dead(used, refusal, response):
                return refusal
            # Without Authorization, for a fresh challenge: Harbor answers an unfit Bearer with a Basic one.
            self._broker.drop(used)
            response = await self._send_with(None, request)
            refusal = await _refusal(response)
            if refusal is None:
                return response
        authorization = await self._answer(requester, response)
        if authorization is None or (used is not None and authorization.header == used.header):
            return refusal
        response = await self._send_with(authorization, request)
        refusal = await _refusal(response)
        if refusal is None or not _is_called_dead(authorization, refusal, response):
            return refusal or response
        self._broker.drop(authorization)
        authorization = await self._answer(requester, response)
        if authorization is None:
            return refusal
        response = await self._send_with(authorization, request)
        return await _refusal(response) or response

    def _may_be_dead(self, used: Authorization, refusal: _Refusal, response: UpstreamResponse) -> bool:
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            return True
        if used.key is None:  # a password does not expire
            return False
        if response.method == "HEAD":
            return self._clock() - used.fetched_at > self._fresh_grant_seconds
        return _says_expired(refusal.text)

    async def _send_with(self, authorization: Authorization | None, request: EndpointRequest) -> UpstreamResponse:
        request.authorization = authorization.header if authorization else None
        response = await self._sender.send(request)
        response.expires_at = authorization.expires_at if authorization else math.inf
        return response

    async def _answer(self, requester: Requester, response: UpstreamResponse) -> Authorization | None:
        """An authorization for a refused request; None where the endpoint does not say what it wants."""
        challenge = choose_challenge(parse_challenges(response.headers.getall("WWW-Authenticate", [])))
        if challenge is None:
            return await self._broker.known_authorization(requester)
        return await self._broker.authorization_for(requester, challenge)


def _requester(target: Target, route: Route, login: Login, identity: str) -> Requester:
    origin, repository, settings = target.endpoint.origin, target.repository, target.settings
    return Requester(origin, repository, settings, route.upstream, login, identity, target.scope)


def _count_refused(route: Route) -> None:
    if route.caller.login is None:  # a client's own credential is nothing that the operator could fix
        UPSTREAM_REFUSED.labels(route.upstream).inc()


async def _refusal(response: UpstreamResponse) -> _Refusal | None:
    """What a refusal says, read and released; None for a response that is none.

    A 400 counts when it says that a token has expired (ECR Public sends no challenge then). What another origin
    answers is no word on our credential: it never saw it.
    """
    if response.elsewhere or response.status not in REFUSALS:
        return None
    text = await response.read_error()
    if response.status == HTTPStatus.BAD_REQUEST and response.method != "HEAD" and not _says_expired(text):
        return None
    return _Refusal(response.status, text)


def _is_called_dead(used: Authorization, refusal: _Refusal, response: UpstreamResponse) -> bool:
    """Whether the registry says that a token is no good, and not that it allows too little (RFC 6750, section 3.1)."""
    if used.key is None or refusal.status != HTTPStatus.UNAUTHORIZED:
        return False
    challenge = choose_challenge(parse_challenges(response.headers.getall("WWW-Authenticate", [])))
    return challenge is not None and challenge.error == _INVALID_TOKEN


def _says_expired(text: str) -> bool:
    return any(word in text.lower() for word in _EXPIRED)


def _advice(requester: Requester, error: Exception) -> str:
    if requester.is_client and isinstance(error, NoLogin):
        return f"{requester.origin.authority} asks for a user name and password"
    return str(error)


def _refusal_text(requester: Requester, reason: str) -> str:
    who = (
        f"as {requester.login.name}" if requester.is_client else "with the configured credentials"
    )  # whose name is no node's
    if requester.login.kind is LoginKind.ANONYMOUS:
        who = "without credentials"
    return f"{reason} for repository:{requester.repository}:pull {who}"
