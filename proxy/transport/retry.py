"""When to try again, and how long to wait before."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

ROUNDS = 3
"""Times that the endpoints are gone through for one request."""
_FIRST_PAUSE = 0.1
_LONGEST_RETRY_AFTER = 24 * 3600.0


def pause_before(round_number: int) -> float:
    """Seconds to wait before a further round: four times as long each, spread so that nodes do not keep step."""
    return _FIRST_PAUSE * 4.0 ** (round_number - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, at most a day; None for none and for what cannot be read."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text.lstrip("0")[:12] or 0), _LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)
