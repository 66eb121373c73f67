"""The figures of the status page, from the metrics: what Prometheus would be told, added up."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from proxy.pull.blob import CacheResult
from proxy.server.status import Certificate, Figures, ScopeFigures, TokenFigures, Unkept

SAVING = (CacheResult.HIT, CacheResult.JOIN, CacheResult.STALE)
"""Ways of serving for which no upstream sends anything anew."""
_PREFIX = "scope_proxy_"


class Samples:
    """The values of our metrics at one moment; collecting them may read files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        families = (family for family in registry.collect() if family.name.startswith(_PREFIX))
        self._by_name: dict[str, list[Sample]] = {}
        for family in families:
            for sample in family.samples:
                self._by_name.setdefault(sample.name.removeprefix(_PREFIX), []).append(sample)

    def of(self, name: str) -> Iterable[Sample]:
        """The samples of a name, without the prefix that all have."""
        return self._by_name.get(name, ())

    def total(self, name: str, fits: Callable[[dict[str, str]], bool] = lambda _: True) -> int:
        """The sum of those whose labels fit."""
        return int(sum(sample.value for sample in self.of(name) if fits(sample.labels)))

    def by(self, name: str, label: str) -> dict[str, int]:
        """The sums by the values of a label."""
        sums: dict[str, int] = {}
        for sample in self.of(name):
            value = sample.labels.get(label, "")
            sums[value] = sums.get(value, 0) + int(sample.value)
        return sums


def figures(samples: Samples) -> Figures:
    """What was counted."""
    codes = samples.by("http_requests_total", "code")
    ways = samples.by("cache_requests_total", "result")
    served = {way.value: ways.get(way.value, 0) for way in CacheResult}
    sent = samples.by("http_response_bytes_total", "cache")
    content = {way.value: sent.get(way.value, 0) for way in CacheResult}
    return Figures(
        requests=sum(codes.values()),
        refused=sum(count for code, count in codes.items() if code.startswith("4")),
        failed=sum(count for code, count in codes.items() if code.startswith("5")),
        served=served,
        bytes_sent=sum(sent.values()),
        request_ratio=_ratio(_saved(served), sum(served.values())),
        byte_ratio=_ratio(_saved(content), sum(content.values())),
        saved_requests=_saved(served),
        saved_bytes=_saved(content),
        tokens=_tokens(samples),
        scopes=_scopes(samples),
        write_errors=samples.total("cache_write_errors_total"),
    )


def certificates(samples: Samples) -> tuple[Certificate, ...]:
    """The certificates that are shown, the one that ends first before the others."""
    found = samples.of("tls_certificate_not_after_timestamp_seconds")
    ends = (Certificate(sample.labels["name"], sample.value) for sample in found if sample.value > 0)
    return tuple(sorted(ends, key=lambda certificate: certificate.ends_at))


def unkept(samples: Samples) -> Unkept | None:
    """The last time that content could not be stored; None without one."""
    found = samples.of("cache_last_write_error_timestamp_seconds")
    times = (Unkept(sample.value, sample.labels["reason"]) for sample in found if sample.value > 0)
    return max(times, key=lambda one: one.at, default=None)


def _saved(by_way: dict[str, int]) -> int:
    return sum(by_way[way.value] for way in SAVING)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _tokens(samples: Samples) -> TokenFigures:
    found = samples.by("token_requests_total", "result")
    return TokenFigures(*(found.get(result, 0) for result in ("cached", "fetched", "joined", "denied", "error")))


def _scopes(samples: Samples) -> ScopeFigures:
    found = samples.by("scopes_total", "outcome")
    kept, replaced, added, dropped = (found.get(name, 0) for name in ("kept", "replaced", "added", "dropped"))
    return ScopeFigures(kept + replaced + added, kept, replaced, added, dropped)
