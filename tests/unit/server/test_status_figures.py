"""Figures of the page, from metrics."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.server.status.collector import Samples, certificates, figures, last_write_error
from proxy.server.status.values import LastWriteError


def test_nothing_counted_yet() -> None:
    found = figures(Samples(CollectorRegistry()))
    assert (found.requests, found.request_ratio, found.byte_ratio, found.saved_bytes) == (0, None, None, 0)
    assert found.served == {"hit": 0, "join": 0, "miss": 0, "stale": 0, "bypass": 0}


def test_sums_and_ratios() -> None:
    registry = CollectorRegistry()
    _count(
        registry, "http_requests", ("route", "code"), {("blob", "200"): 7, ("manifest", "404"): 2, ("blob", "503"): 1}
    )
    served = {
        ("tag", "hit"): 2,
        ("blob", "join"): 1,
        ("manifest", "stale"): 1,
        ("blob", "miss"): 3,
        ("tag", "bypass"): 1,
    }
    _count(registry, "cache_requests", ("kind", "result"), served)
    sent = {("blob", "hit"): 600, ("blob", "miss"): 200, ("other", ""): 50}
    _count(registry, "http_response_bytes", ("route", "cache"), sent)
    _count(registry, "cache_write_errors", ("reason",), {("enospc",): 2, ("eio",): 1})
    found = figures(Samples(registry))
    assert (found.requests, found.refused, found.failed) == (10, 2, 1)
    assert (found.request_ratio, found.saved_requests) == (0.5, 4)
    assert (found.byte_ratio, found.saved_bytes, found.bytes_sent) == (0.75, 600, 850)
    assert found.write_errors == 3


def test_tokens_and_scopes_of_all_upstreams_together() -> None:
    registry = CollectorRegistry()
    tokens = {("a", "cached"): 5, ("b", "cached"): 1, ("a", "fetched"): 2, ("a", "denied"): 3}
    _count(registry, "token_requests", ("upstream", "result"), tokens)
    scopes = {("a", "kept"): 1, ("a", "replaced"): 2, ("b", "added"): 4, ("b", "dropped"): 8}
    _count(registry, "scopes", ("upstream", "outcome"), scopes)
    found = figures(Samples(registry))
    assert (found.tokens.cached, found.tokens.fetched, found.tokens.joined, found.tokens.denied) == (6, 2, 0, 3)
    assert (found.scopes.asked, found.scopes.replaced, found.scopes.dropped) == (7, 2, 8)


def test_the_certificate_that_ends_first_stands_first() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("scope_proxy_tls_certificate_not_after_timestamp_seconds", "x", ["name"], registry=registry)
    for name, ends in (("late", 20.0), ("soon", 10.0), ("unknown", 0.0)):
        gauge.labels(name).set(ends)
    assert [found.setting for found in certificates(Samples(registry))] == ["soon", "late"]


def test_the_last_time_that_content_was_not_kept() -> None:
    registry = CollectorRegistry()
    name = "scope_proxy_cache_last_write_error_timestamp_seconds"
    gauge = Gauge(name, "x", ["reason"], registry=registry)
    gauge.labels("other").set(0)
    assert last_write_error(Samples(registry)) is None
    for reason, at in (("eio", 20.0), ("enospc", 30.0)):
        gauge.labels(reason).set(at)
    assert last_write_error(Samples(registry)) == LastWriteError(30.0, "enospc")


def _count(registry: CollectorRegistry, name: str, labels: tuple[str, ...], values: Mapping[Any, int]) -> None:
    counter = Counter(f"scope_proxy_{name}", "x", labels, registry=registry)
    for key, value in values.items():
        counter.labels(*key).inc(value)
