"""Which endpoint is asked next: their order, their health, their rest."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.config.address import Origin
from proxy.routing.table import Target

COOL_DOWN = 5.0
"""Seconds that an endpoint goes to the end of the order after a failure; doubled with each further one ..."""
LONGEST_COOL_DOWN = 60.0
"""... up to so many seconds."""
LONGEST_REST = 300.0
"""Seconds that an endpoint is left alone for at the most: then one request finds out how it is."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    cool_until: float = 0.0
    rest_until: float = 0.0


class Endpoints:
    """What is known of the endpoint hosts; shared by all routes, as a host that is down is down for all."""

    def __init__(self) -> None:
        self._health: dict[Origin, _Health] = {}  # endpoints stand in the configuration, so there are few

    def order(self, targets: Sequence[Target]) -> list[Target]:
        """The targets as configured, those that failed lately at the end."""
        now = time.monotonic()
        return sorted(targets, key=lambda target: self._of(target).cool_until > now)

    def rest(self, target: Target) -> float:
        """Seconds that the endpoint asked to be left alone for."""
        return max(self._of(target).rest_until - time.monotonic(), 0.0)

    def succeeded(self, target: Target) -> None:
        """The endpoint answered; a rest that it asked another request for stays."""
        if not self.rest(target):
            self._health.pop(target.endpoint.origin, None)

    def failed(self, target: Target, retry_after: float | None = None) -> None:
        """The endpoint could not be asked, or asked to be left alone for `retry_after` seconds."""
        health = self._of(target)
        now = time.monotonic()
        health.failures += 1
        health.cool_until = now + min(COOL_DOWN * 2.0 ** (health.failures - 1), LONGEST_COOL_DOWN)
        if retry_after is not None:
            health.rest_until = now + min(retry_after, LONGEST_REST)

    def _of(self, target: Target) -> _Health:
        return self._health.setdefault(target.endpoint.origin, _Health())
