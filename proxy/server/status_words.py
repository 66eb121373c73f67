"""Figures as people read them."""

import hashlib
from datetime import UTC, datetime
from urllib.parse import urlencode

from proxy.server.refusals import Refusal

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024.0
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def clock(at: float) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for length, unit in _SPANS:
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"


def size(value: int) -> str:
    """Bytes with a unit."""
    amount = float(value)
    for unit in _UNITS:
        if amount < _STEP or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _STEP
    raise AssertionError("the last unit takes all")


def count(value: int) -> str:
    """A number with its thousands apart."""
    return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}")


def percent(ratio: float | None) -> str:
    """A share; a dash where there is none yet."""
    return "\N{EN DASH}" if ratio is None else f"{100 * ratio:.1f} %"


def query(parameters: dict[str, str]) -> str:
    """The query of a URL, without what is empty."""
    return urlencode({name: value for name, value in parameters.items() if value})


def key(refusal: Refusal) -> str:
    """What stays the same of a refusal that comes again, as an id of the page."""
    same = f"{refusal.image} {refusal.status} {refusal.code}"
    return f"error-{hashlib.blake2b(same.encode(), digest_size=6).hexdigest()}"
