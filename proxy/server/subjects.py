"""The names in a client's certificate, as `getpeercert()` gives it, and whether they are on the list to be let in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config.wildcard import covers
from proxy.routing.caller import ANONYMOUS_NAME

ALTERNATIVE_KINDS = ("DNS", "URI", "email")
"""Alternative names that count, as Python calls them and as `clients.subjects` writes them: `DNS:node1.example`."""
NAME_LIMIT = 255
"""Characters of a name; longer ones do not count."""

PeerCertificate = Mapping[str, Any]
"""What `ssl.SSLSocket.getpeercert()` returns; empty for a certificate that nobody has verified."""


@dataclass(frozen=True, slots=True)
class _Names:
    common: str | None
    alternative: tuple[str, ...]


def subject_name(peercert: PeerCertificate | None) -> str | None:
    """The client's name for logs and access rules: the common name, else the first alternative name with its kind.

    None where no name can be used: such a client is not to be taken for one without a certificate.
    """
    names = _names(peercert)
    return names.common or next(iter(names.alternative), None)


def is_allowed(peercert: PeerCertificate | None, patterns: Iterable[str]) -> bool:
    """Whether a verified certificate has a name that one of the patterns is for; without patterns all are let in.

    A bare pattern is for common names, one with `DNS:`, `URI:` or `email:` for alternative names of that kind only.
    """
    listed = tuple(patterns)
    if not listed:
        return bool(peercert)
    names = _names(peercert)
    return any(_fits(pattern, names) for pattern in listed)


def _fits(pattern: str, names: _Names) -> bool:
    kind, colon, rest = pattern.partition(":")
    if colon and kind in ALTERNATIVE_KINDS:
        wanted = f"{kind}:{rest.lower()}" if kind == "DNS" else pattern
        return any(covers(wanted, name) for name in names.alternative)
    return names.common is not None and covers(pattern, names.common)


def _names(peercert: PeerCertificate | None) -> _Names:
    if not peercert:
        return _Names(None, ())
    common = [value for part in peercert.get("subject", ()) for key, value in part if key == "commonName"]
    # Several common names would let each reader pick another one.
    only = common[0] if len(common) == 1 and _is_plain(common[0]) and not _is_taken(common[0]) else None
    return _Names(only, tuple(_alternative(peercert.get("subjectAltName", ()))))


def _alternative(entries: Iterable[tuple[str, object]]) -> Iterator[str]:
    for kind, value in entries:
        if kind in ALTERNATIVE_KINDS and _is_plain(value):
            yield f"{kind}:{str(value).lower() if kind == 'DNS' else value}"


def _is_plain(value: object) -> bool:
    """Whether it is printable ASCII without spaces at its ends: all else has been used to look like another name."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LIMIT:
        return False
    return value.isascii() and value.isprintable() and value == value.strip()


def _is_taken(common: str) -> bool:
    """Whether a common name would be read as something else: a client without a name, or an alternative name."""
    return common == ANONYMOUS_NAME or common.partition(":")[0] in ALTERNATIVE_KINDS
