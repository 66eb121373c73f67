"""Which requests a fault is for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.testbed.record import Call, Kind


def _always(_call: Call) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Match:
    """Fits requests by what is given; `first` and `last` bound which of the fitting ones (counted from 1) it takes."""

    method: str | None = None
    kind: Kind | None = None
    repository: str | None = None
    reference: str | None = None
    first: int = 1
    last: int | None = None
    predicate: Callable[[Call], bool] = _always

    def nth(self, number: int) -> "Match":
        """Only the nth fitting request."""
        return replace(self, first=number, last=number)

    def times(self, count: int) -> "Match":
        """Only so many fitting requests from the first one on."""
        return replace(self, last=self.first + count - 1)

    def starting(self, number: int) -> "Match":
        """The nth fitting request and all after it."""
        return replace(self, first=number)

    def where(self, predicate: Callable[[Call], bool]) -> "Match":
        """Only requests for which this holds too."""
        before = self.predicate
        return replace(self, predicate=lambda call: before(call) and predicate(call))

    def reused(self) -> "Match":
        """Only requests that come on a connection that has served one before."""
        return self.where(lambda call: call.reused)

    def with_header(self, name: str) -> "Match":
        """Only requests that carry this header, such as Range or Authorization."""
        return self.where(lambda call: bool(call.header(name)))

    def fits(self, call: Call) -> bool:
        """Whether the request is of the sort meant, whatever its number."""
        wanted = (self.method, self.kind, self.repository, self.reference)
        given = (call.method, call.kind, call.repository, call.reference)
        same = all(want is None or want == have for want, have in zip(wanted, given, strict=True))
        return same and self.predicate(call)

    def takes(self, number: int) -> bool:
        """Whether the fitting request of this number is meant."""
        return self.first <= number and (self.last is None or number <= self.last)


def on(
    method: str | None = None,
    kind: Kind | None = None,
    *,
    repository: str | None = None,
    reference: str | None = None,
) -> Match:
    """Requests of this method, kind (manifest, blob, tags, referrers, token, ping, object), repository, reference."""
    return Match(method, kind, repository, reference)
