"""Whether the clocks agree: tokens and certificates are good for a time."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from proxy.doctor.journal import Journal
from proxy.doctor.report import Check

WARNING_SECONDS = 60.0
"""A difference of the clocks from which it is spoken of."""
FAILURE_SECONDS = 300.0
"""A difference from which tokens are refused as expired, or as not yet valid."""

_ADVICE = "set the clocks by NTP, here and there: tokens and certificates are judged by them"


def check_clock(journal: Journal, host: str, date: str | None, at: float) -> None:
    """Compare the Date header of an answer with our clock, in seconds since the epoch."""
    theirs = _seconds(date)
    if theirs is None:
        journal.skipped(Check.CLOCK, f"{host} sends no Date header that can be read")
        return
    skew = round(theirs - at)
    direction = "ahead of" if skew > 0 else "behind"
    seen = f"the clock of {host} is {abs(skew)} s {direction} ours"
    if abs(skew) > FAILURE_SECONDS:
        journal.failed(Check.CLOCK, seen, _ADVICE, skew=skew)
    elif abs(skew) > WARNING_SECONDS:
        journal.warned(Check.CLOCK, seen, _ADVICE, skew=skew)
    else:
        journal.passed(Check.CLOCK, "the clocks agree" if abs(skew) <= 1 else seen, skew=skew)


def _seconds(date: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
