"""How many more pulls a registry allows, as its headers tell."""

import re
from collections.abc import Mapping

from proxy.doctor.journal import Journal
from proxy.doctor.report import Check

LOW_SHARE = 0.1
"""What is left of the limit when it is time to say so."""

_COUNT = re.compile(r"\s*(\d{1,9})\s*(?:;.*)?")
_ADVICE = "configure an account, or wait; a cache asks less often"


def check_rates(journal: Journal, host: str, *answers: Mapping[str, str]) -> None:
    """Tell the limit that the first of these answers names, by its headers."""
    limits = ((_count(headers, "ratelimit-limit"), _count(headers, "ratelimit-remaining")) for headers in answers)
    limit, left = next((pair for pair in limits if pair != (None, None)), (None, None))
    if limit is None and left is None:
        journal.passed(Check.RATE_LIMIT, f"{host} names no limit", limit=None, remaining=None)
        return
    of = f" of {limit}" if limit is not None else ""
    seen = f"{left if left is not None else 'an unknown number'}{of} pulls are left at {host}"
    if left is not None and left <= LOW_SHARE * (limit or 0):
        journal.warned(Check.RATE_LIMIT, seen, _ADVICE, limit=limit, remaining=left)
    else:
        journal.passed(Check.RATE_LIMIT, seen, limit=limit, remaining=left)


def _count(headers: Mapping[str, str], name: str) -> int | None:
    """The number that a header begins with, as in `100;w=21600`."""
    match = _COUNT.fullmatch(headers.get(name, ""))
    return int(match[1]) if match else None
