"""Rate limits as registries report them in response headers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

LOW_SHARE = 0.1
"""Share of the limit up to which little is left ..."""
FEW = 10
"""... or fewer requests than this, but no more than half of the limit."""
UNKNOWN_WINDOW = 300.0
"""Seconds for which a report counts that has neither a window nor a reset time."""
LONGEST_WINDOW = 86400.0
"""Longest time in seconds for which a report counts."""

_HEADER_LENGTH = 200
_EARLIEST_TIMESTAMP = 1_000_000_000
"""Numbers from here on are a time, smaller ones are seconds from now."""
_COUNT = re.compile(r"\s*(\d{1,9})\s*(?:[;,].*)?", re.ASCII)
_WINDOW = re.compile(r";\s*w\s*=\s*(\d{1,9})", re.ASCII)
_RESET = re.compile(r"\s*(\d{1,12})(?:\.\d{1,9})?\s*", re.ASCII)
_SOURCE = re.compile(r"[0-9A-Za-z.:_-]{1,64}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the headers of one response report; times are seconds since the epoch."""

    limit: int | None
    remaining: int | None
    window: float | None
    """Seconds; None if it is not reported."""
    reset_at: float
    """The reported reset time, or else the end of a window that begins now."""
    is_standard: bool = True
    """False for the `x-ratelimit-` headers, which may report a different limit of the same registry."""
    source: str = ""
    """Whom Docker Hub counts: an address or the id of an account."""

    @property
    def share(self) -> float:
        """The remaining share of the limit; infinite if it is unknown."""
        if self.remaining is None:
            return math.inf
        if not self.limit:
            return math.inf if self.remaining else 0.0
        return self.remaining / self.limit

    @property
    def is_low(self) -> bool:
        """Whether little is left."""
        if self.remaining is None:
            return False
        if self.limit is None:
            return not self.remaining
        return self.remaining <= max(LOW_SHARE * self.limit, min(FEW - 1, self.limit // 2))


def parse_rate_limit(headers: Mapping[str, str], now: float) -> RateLimit | None:
    """The rate limit that response headers report at a time; None if they report none. Ignores malformed headers.

    Docker Hub sends `ratelimit-limit: 100;w=21600` and no reset time, GitLab a Unix time in `ratelimit-reset`, others
    seconds; GitHub and gateways in front of registries use the same names after `x-`.
    """
    for prefix in ("ratelimit-", "x-ratelimit-"):
        limit, remaining = _count(headers, f"{prefix}limit"), _count(headers, f"{prefix}remaining")
        if limit is None and remaining is None:
            continue
        window = _window(headers, f"{prefix}remaining") or _window(headers, f"{prefix}limit")
        latest = now + LONGEST_WINDOW
        reset_at = min(_reset(headers, f"{prefix}reset", now) or now + (window or UNKNOWN_WINDOW), latest)
        source = headers.get("docker-ratelimit-source", "")
        named = source if _SOURCE.fullmatch(source) else ""
        return RateLimit(limit, remaining, window, max(reset_at, now), prefix == "ratelimit-", named)
    return None


def _count(headers: Mapping[str, str], name: str) -> int | None:
    match = _COUNT.fullmatch(_text(headers, name))
    return int(match[1]) if match else None


def _window(headers: Mapping[str, str], name: str) -> float | None:
    match = _WINDOW.search(_text(headers, name))
    return float(match[1]) or None if match else None


def _reset(headers: Mapping[str, str], name: str, now: float) -> float | None:
    match = _RESET.fullmatch(_text(headers, name))
    if match is None:
        return None
    value = float(match[1])
    return value if value >= _EARLIEST_TIMESTAMP else now + value


def _text(headers: Mapping[str, str], name: str) -> str:
    text = headers.get(name, "")
    return text if len(text) <= _HEADER_LENGTH else ""
