"""Which endpoint is tried next: their order, their health, their Retry-After."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from proxy.config.address import Origin
from proxy.routing.table import Target

COOL_DOWN = 5.0
"""Seconds that an endpoint goes to the end of the order after a failure; doubled with each further one ..."""
LONGEST_COOL_DOWN = 60.0
"""... up to so many seconds."""
LONGEST_REST = 300.0
"""Seconds that an endpoint is left alone for at the most: then one request finds out how it is."""
QUIET_SECONDS = 60.0
"""An endpoint that fails and serves in turn is logged once in so many seconds."""
ERROR_LIMIT = 300
"""Characters of an endpoint's last error that are remembered."""

_logger = logging.getLogger(__name__)


class EndpointState(StrEnum):
    """The state of an endpoint, as far as requests reveal it."""

    UNASKED = "unasked"
    OK = "ok"
    REFUSING = "refusing"
    """It answers, and its last response was a refusal or unusable."""
    FAILING = "failing"
    """The last request failed; the next one tries it again."""
    COOLING = "cooling"
    """As failing, and others are tried before it for a while."""
    RESTING = "resting"
    """It sent a Retry-After that is not over."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What the status shows of an endpoint; times are seconds since the epoch."""

    state: EndpointState
    until: float | None = None
    """The end of cooling or resting."""
    failures: int = 0
    """Requests that failed one after the other, up to now."""
    error: str = ""
    """The last error, also where it is over."""
    error_at: float | None = None
    success_at: float | None = None
    """When it last delivered what was requested, or said that it does not have it."""
    refusals: int = 0
    """Consecutive responses up to now that were refusals or unusable."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    refusals: int = 0
    cool_until: float = 0.0
    rest_until: float = 0.0
    error: str = ""
    error_at: float | None = None
    success_at: float | None = None
    is_told: bool = False
    quiet_until: float = 0.0

    def state(self, now: float) -> EndpointState:
        """The state at a time of the monotonic clock."""
        if self.rest_until > now:
            return EndpointState.RESTING
        if self.failures:
            return EndpointState.COOLING if self.cool_until > now else EndpointState.FAILING
        if self.error_at is not None and self.error_at >= (self.success_at or 0.0):
            return EndpointState.REFUSING
        return EndpointState.OK if self.success_at is not None else EndpointState.UNASKED


class Endpoints:
    """What is known of the endpoint hosts; shared by all routes, as a host that is down is down for all.

    What one client finds out for itself is not logged: it says nothing of the host.
    """

    def __init__(
        self,
        *,
        logs: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._logs = logs
        self._clock = clock
        self._wall_clock = wall_clock
        self._health: dict[Origin, _Health] = {}  # endpoints stand in the configuration, so there are few
        self._origins: dict[str, set[Origin]] = {}  # by upstream; a route of a client's own may hold one of them only

    def for_client(self) -> "Endpoints":
        """An empty one for a client with a credential of its own."""
        return Endpoints(logs=False, clock=self._clock, wall_clock=self._wall_clock)

    def order(self, targets: Sequence[Target]) -> list[Target]:
        """The targets as configured, those that failed lately at the end."""
        now = self._clock()
        return sorted(targets, key=lambda target: self._of(target).cool_until > now)

    def rest(self, target: Target) -> float:
        """Seconds that are left of the endpoint's Retry-After."""
        return max(self._of(target).rest_until - self._clock(), 0.0)

    def succeeded(self, target: Target) -> None:
        """The endpoint answered as it should; a Retry-After of another response stays."""
        health = self._of(target)
        health.success_at = self._wall_clock()
        health.refusals = 0
        if not self.rest(target):
            if health.is_told:
                health.is_told = False
                _logger.info("%s serves again, after %d failures", target.endpoint.origin, health.failures)
            health.failures, health.cool_until = 0, 0.0

    def refused(self, target: Target, error: str) -> None:
        """The endpoint answered, and not as it should; that says nothing of the next request."""
        self._note(target, error)
        self._of(target).refusals += 1

    def failed(self, target: Target, error: str, retry_after: float | None = None) -> None:
        """The endpoint was unavailable, or sent a Retry-After of `retry_after` seconds."""
        self._note(target, error)
        health = self._of(target)
        now = self._clock()
        health.failures += 1
        if self._logs and not health.is_told and now >= health.quiet_until:
            health.is_told, health.quiet_until = True, now + QUIET_SECONDS
            _logger.warning("%s fails: %s", target.endpoint.origin, health.error)
        health.cool_until = now + min(COOL_DOWN * 2.0 ** (health.failures - 1), LONGEST_COOL_DOWN)
        if retry_after is not None:
            health.rest_until = now + min(retry_after, LONGEST_REST)

    def are_down(self, upstream: str, targets: Sequence[Target]) -> bool:
        """Whether all endpoints of an upstream failed at their last attempt; the targets are those of a route."""
        origins = self._origins.setdefault(upstream, set())
        origins.update(target.endpoint.origin for target in targets)
        return all(origin in self._health and self._health[origin].failures > 0 for origin in origins)

    def health(self, origin: Origin) -> EndpointHealth:
        """How an endpoint's host is."""
        known = self._health.get(origin)
        if known is None:
            return EndpointHealth(EndpointState.UNASKED)
        now = self._clock()
        state = known.state(now)
        ends = {EndpointState.RESTING: known.rest_until, EndpointState.COOLING: known.cool_until}
        until = self._wall_clock() + ends[state] - now if state in ends else None
        return EndpointHealth(
            state, until, known.failures, known.error, known.error_at, known.success_at, known.refusals
        )

    def _note(self, target: Target, error: str) -> None:
        health = self._of(target)
        health.error, health.error_at = error[:ERROR_LIMIT], self._wall_clock()

    def _of(self, target: Target) -> _Health:
        return self._health.setdefault(target.endpoint.origin, _Health())
