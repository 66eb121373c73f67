"""Rate limits that registries report, for each upstream and credential, and when to save requests."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from cachetools import LRUCache

from proxy.config.address import Origin
from proxy.observe.metrics import (
    UPSTREAM_RATE_LIMIT,
    UPSTREAM_RATE_LIMIT_REMAINING,
    UPSTREAM_RATE_LIMIT_RESET,
    UPSTREAM_RATE_LIMIT_WINDOW,
    Bound,
)
from proxy.oci.login import LoginKind
from proxy.oci.request import Operation
from proxy.routing.table import Route, Target
from proxy.upstream.rate_limit_headers import RateLimit, parse_rate_limit
from proxy.upstream.send import EndpointRequest, RequestSender, UpstreamResponse

PULL = 2
"""Requests that a pull of an image with an index costs: with fewer left, nothing is confirmed."""
SHORTEST_RESET = 60.0
"""Seconds until the reset below which nothing is saved: a 429 passes by itself then."""

ANONYMOUS_LABEL = "anonymous"
CLIENT_LABEL = "client"
"""The label of all credentials that clients send themselves."""
OTHER_LABEL = "other"
"""The label of credentials beyond `LABELS_LIMIT`."""
LABELS_LIMIT = 64
"""Most label values of credentials for one upstream."""
_LABEL_LENGTH = 120
_LIMITS_LIMIT = 256
"""Most pairs of endpoint and account that are remembered for one label value."""
_REPOSITORIES_LIMIT = 20_000
"""Most repositories of which the account that was used last is remembered."""

_SHORTEST_GAP = 10.0

_LIMIT, _REMAINING = Bound(UPSTREAM_RATE_LIMIT), Bound(UPSTREAM_RATE_LIMIT_REMAINING)
_WINDOW_SECONDS, _RESET_TIME = Bound(UPSTREAM_RATE_LIMIT_WINDOW), Bound(UPSTREAM_RATE_LIMIT_RESET)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """A rate limit for the status page; times are seconds since the epoch."""

    upstream: str
    credential: str
    """A configured name, `anonymous` or `client`; never a secret."""
    limit: int | None
    remaining: int | None
    window: float | None
    reset_at: float
    at: float
    """When the registry reported it."""
    low: bool
    """Whether tags are confirmed less often because little is left."""


@dataclass(slots=True)
class _KnownLimit:
    """The last report for one account at one endpoint; times are on the monotonic clock."""

    report: RateLimit
    noted: float
    noted_at: float
    confirmed: float
    heads_count: bool | None = None
    """Whether the registry counts HEAD; None if unknown."""
    is_probed: bool = False
    is_logged: bool = False

    @property
    def expires(self) -> float:
        return self.noted + self.report.reset_at - self.noted_at

    def update(self, report: RateLimit, method: str, now: float, wall_now: float) -> None:
        if method == "HEAD":
            self._learn(report, now - self.noted)
        if report.is_low and not self.report.is_low:
            self.confirmed = now
        self.report, self.noted, self.noted_at = report, now, wall_now

    def _learn(self, report: RateLimit, gap: float) -> None:
        """Whether the HEAD was counted, unless the registry could have given back a request in the meantime."""
        before, left, limit = self.report.remaining, report.remaining, report.limit
        if before is None or left is None or limit != self.report.limit or not report.is_standard:
            return
        if gap <= max(_SHORTEST_GAP, (report.window or 0.0) / (limit or 1) / 2):
            if left == before:
                self.heads_count = False
            elif left < before and self.heads_count is None:  # other nodes at this address may have pulled
                self.heads_count = True

    def may_confirm(self, now: float) -> bool:
        """Whether a tag may be confirmed now; the caller then does it, as the next one waits its turn."""
        left = self.report.remaining
        is_short = self.report.reset_at - self.noted_at < SHORTEST_RESET
        if left is None or not self.report.is_low or is_short or now >= self.expires:
            return True
        if left < PULL or self.heads_count is False:
            return left >= PULL
        is_due = now - self.confirmed >= (self.expires - now) / left
        if is_due or (self.heads_count is None and not self.is_probed):
            self.confirmed, self.is_probed = now, True
            return True
        return False


_Group = tuple[str, str]
"""Upstream and label value of the credential."""
_Account = tuple[Origin, str]
"""Endpoint and identity of the credential."""


class RateLimits:
    """The last reports of the registries, as long as they count."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._groups: dict[_Group, LRUCache[_Account, _KnownLimit]] = {}
        self._used: LRUCache[tuple[str, str], tuple[_Group, _Account]] = LRUCache(_REPOSITORIES_LIMIT)
        """Which account a repository was last requested with, by the repository and the client's identity."""

    def note(self, request: EndpointRequest, response: UpstreamResponse) -> None:
        """Read the headers of a response; those of a redirect target report nothing of the registry."""
        if response.elsewhere:
            return
        route, target = request.route, request.target
        repository = (target.key, route.caller.identity)
        now, wall_now = self._clock(), self._wall_clock()
        report = parse_rate_limit(response.headers, wall_now)
        if report is None:
            if request.wanted.operation is Operation.MANIFEST and response.status < HTTPStatus.BAD_REQUEST:
                self._used.pop(repository, None)  # such as the images that Docker Hub does not limit
            return
        group = (route.upstream, self._label(route, response))
        account = (target.endpoint.origin, route.caller.identity or response.login.identity)
        accounts = self._groups.setdefault(group, LRUCache(_LIMITS_LIMIT))
        self._used[repository] = group, account
        known: _KnownLimit | None = accounts.get(account)
        if known is None:
            known = accounts[account] = _KnownLimit(report, now, wall_now, now)
        elif report.is_standard or not known.report.is_standard or now >= known.expires:
            known.update(report, response.method, now, wall_now)
        _set_gauges(group, min(self._current(accounts.values(), now), key=_by_share, default=known).report)
        self._log(group, account, known)

    def _label(self, route: Route, response: UpstreamResponse) -> str:
        if response.login.kind is LoginKind.ANONYMOUS:
            return ANONYMOUS_LABEL
        if route.caller.login is not None:
            return CLIENT_LABEL
        name = "".join(character for character in response.login.name if character.isprintable())[:_LABEL_LENGTH]
        if name in (ANONYMOUS_LABEL, CLIENT_LABEL):
            name = f"{name} (configured)"
        is_known = (route.upstream, name) in self._groups
        count = sum(upstream == route.upstream for upstream, _ in self._groups)
        return name if is_known or count < LABELS_LIMIT else OTHER_LABEL

    def _current(self, known: Iterable[_KnownLimit], now: float) -> Iterator[_KnownLimit]:
        return (item for item in known if now < item.expires)

    def _log(self, group: _Group, account: _Account, known: _KnownLimit) -> None:
        upstream, label = group
        if known.report.is_low and not known.is_logged and label != CLIENT_LABEL:
            text = "%s limits requests (%s): %s; known tags may be served stale"
            _logger.warning(text, upstream, label, _left(known.report, account[0]))
        known.is_logged = known.report.is_low

    def reason_to_save(self, route: Route) -> str | None:
        """Why a known tag is not to be confirmed now; None if it is, because an endpoint has enough requests left.

        With little left, the remaining requests are spread over the rest of the window. A registry that does not count
        HEAD is requested as long as a pull is left.
        """
        now = self._clock()
        entries = [self._entry(route, target) for target in route.targets]
        known = [entry for entry in entries if entry is not None]
        if len(known) < len(entries) or any(item.may_confirm(now) for _, item in known):
            return None
        return "; ".join(_left(item.report, origin) for origin, item in known)

    def _entry(self, route: Route, target: Target) -> tuple[Origin, _KnownLimit] | None:
        used = self._used.get((target.key, route.caller.identity))
        if used is None:
            return None
        group, account = used
        known = self._groups[group].get(account)
        return None if known is None else (account[0], known)

    def labels(self) -> set[tuple[str, str]]:
        """The label values, upstream and credential, for which there is a report."""
        return set(self._groups)

    def statuses(self) -> list[RateLimitStatus]:
        """The reports that still count, the lowest share of each upstream and credential."""
        now, statuses = self._clock(), []
        for (upstream, label), accounts in sorted(self._groups.items()):
            known = min(self._current(accounts.values(), now), key=_by_share, default=None)
            if known is not None:
                report = known.report
                values = (report.limit, report.remaining, report.window, report.reset_at)
                statuses.append(RateLimitStatus(upstream, label, *values, known.noted_at, report.is_low))
        return statuses


class RateLimitReader:
    """Sends requests on, and notes the rate limits that the responses report."""

    def __init__(self, sender: RequestSender, limits: RateLimits) -> None:
        self._sender = sender
        self._limits = limits

    async def send(self, request: EndpointRequest) -> UpstreamResponse:
        """The response; raises what the inner sender raises."""
        response = await self._sender.send(request)
        self._limits.note(request, response)
        return response


def _by_share(known: _KnownLimit) -> float:
    return known.report.share


def _left(report: RateLimit, origin: Origin) -> str:
    of = "" if report.limit is None else f" of {report.limit}"
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(report.reset_at))
    return f"{report.remaining}{of} requests are left at {origin.authority} until {until}"


def _set_gauges(group: _Group, report: RateLimit) -> None:
    _RESET_TIME[group].set(report.reset_at)
    for gauge, value in ((_LIMIT, report.limit), (_REMAINING, report.remaining), (_WINDOW_SECONDS, report.window)):
        if value is not None:
            gauge[group].set(value)
