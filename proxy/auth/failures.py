"""Token requests that failed a moment ago: they are not sent again at once, however many nodes ask.

A node that retries, or a hostile one, must not make us hammer a token server, nor lock an account by wrong passwords.
"""

import logging
import time
from dataclasses import dataclass

from cachetools import TLRUCache

from proxy.auth.exchange import TokenRefused, TokenUnavailable
from proxy.auth.grant import GrantKey

REFUSED_SECONDS = 30.0
"""How long a refusal stands; another password is another key, so a corrected one is tried at once."""
LONGEST_SECONDS = 60.0
"""How long a token server that asks for it by Retry-After is left alone at the most."""
FAILURES_LIMIT = 20_000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: TokenRefused | TokenUnavailable
    until: float


class Failures:
    """Remembers failed token requests."""

    def __init__(self) -> None:
        self._failures: TLRUCache[GrantKey, _Failure] = TLRUCache(
            FAILURES_LIMIT, ttu=lambda _key, failure, _now: failure.until, timer=time.monotonic
        )

    def get(self, key: GrantKey) -> TokenRefused | TokenUnavailable | None:
        """Why there was no token a moment ago."""
        failure = self._failures.get(key)
        return None if failure is None else failure.error.again()

    def add(self, key: GrantKey, error: TokenRefused | TokenUnavailable) -> None:
        """There is no token for now; what may pass at any moment is not remembered."""
        seconds = REFUSED_SECONDS
        if isinstance(error, TokenUnavailable):
            if not error.retry_after:
                return
            seconds = min(error.retry_after, LONGEST_SECONDS)
        self._failures[key] = _Failure(error.again(), time.monotonic() + seconds)
        _logger.warning("no token for %s: %s; asked again in %.0f s at the earliest", key.scope, error, seconds)
