"""Wrong passwords of clients: a few are passed on, then none for a while, or the account behind them is locked.

Some registries answer 401 also to who may not pull a repository. So a credential that has worked lately is never held
back.
"""

from cachetools import TTLCache

from proxy.auth.broker import Asker
from proxy.config.address import Origin

STRIKES = 3
"""Refusals by 401 of one credential at one host ..."""
STRIKE_SECONDS = 30.0
"""... within so many seconds, after which it is not tried there again until they are over."""
TRUST_SECONDS = 600.0
"""How long a credential that has worked is tried whatever is refused to it."""
REMEMBERED = 20_000
"""Most credentials of clients that are remembered."""

_Key = tuple[Origin, str]


class Strikes:
    """Counts them."""

    def __init__(self) -> None:
        self._refusals: TTLCache[_Key, tuple[int, str]] = TTLCache(REMEMBERED, STRIKE_SECONDS)
        self._worked: TTLCache[_Key, bool] = TTLCache(REMEMBERED, TRUST_SECONDS)

    def refusal(self, asker: Asker) -> str | None:
        """Why the credential is not tried now; None where it is."""
        count, told = self._refusals.get(_key(asker), (0, ""))
        return told if count >= STRIKES and asker.is_client else None

    def add(self, asker: Asker, told: str) -> None:
        """The credential was refused."""
        key = _key(asker)
        if asker.is_client and key not in self._worked:
            count, _ = self._refusals.get(key, (0, ""))
            self._refusals[key] = count + 1, told

    def clear(self, asker: Asker) -> None:
        """The credential has worked."""
        self._worked[_key(asker)] = True
        self._refusals.pop(_key(asker), None)


def _key(asker: Asker) -> _Key:
    return asker.host, asker.identity
