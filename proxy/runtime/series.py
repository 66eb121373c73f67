"""Creates metric series at the start and deletes stale ones: no gaps in graphs, no alerts from removed upstreams."""

import math
import time
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import product

from prometheus_client import Gauge
from prometheus_client.metrics import MetricWrapperBase

from proxy.config.model import Config
from proxy.observe import metrics
from proxy.oci.request import Operation
from proxy.pull.blobs.live import CacheResult
from proxy.routing.rewrite import rule_label
from proxy.server.refusals import REJECTIONS
from proxy.store.disk import REASONS

_HOSTS = "hosts."


def forget_stale_series(
    config: Config, of_upstreams: Iterable[MetricWrapperBase], rules: AbstractSet[tuple[str, str]]
) -> None:
    """Delete the series of upstreams, rules and certificates that left the configuration.

    `of_upstreams` are the metrics whose first label is the upstream. With several workers no series can be deleted:
    series that could fire an alert then get a value that fires none.
    """
    if not metrics.can_forget():
        _quieten(config)
        return
    for metric in of_upstreams:
        metrics.forget(metric, {values for values in metrics.known(metric) if values[0] not in config.registries})
    metrics.forget(metrics.REWRITES, metrics.known(metrics.REWRITES) - rules)
    metrics.forget(metrics.TLS_NOT_AFTER, _stale_certificates(config))


def forget_rate_limits(config: Config, reported: AbstractSet[tuple[str, str]]) -> None:
    """Delete the rate limits of upstreams that left the configuration and of credentials without a report.

    `reported` are upstream and credential of the reports that the active configuration has. With several workers the
    reset time becomes 0: then what is left does not count.
    """
    for metric in RATE_LIMITS:
        series = metrics.known(metric)
        stale = {values for values in series if values[0] not in config.registries or values not in reported}
        if metrics.can_forget():
            metrics.forget(metric, stale)
        elif metric is metrics.UPSTREAM_RATE_LIMIT_RESET:
            for values in stale:
                metric.labels(*values).set(0)


def _quieten(config: Config) -> None:
    """Set stale series so that no alert fires: a removed upstream is up, a removed certificate never expires."""
    for values in metrics.known(metrics.UPSTREAM_UP):
        if values[0] not in config.registries:
            metrics.UPSTREAM_UP.labels(*values).set(1)
    for values in _stale_certificates(config):
        metrics.TLS_NOT_AFTER.labels(*values).set(math.inf)


def _stale_certificates(config: Config) -> set[tuple[str, ...]]:
    """Series of certificates under `hosts` that left the configuration; those of listeners stay until a restart."""
    configured = {f"{_HOSTS}{name}.tls" for name, host in config.hosts.items() if host.tls.cert_file is not None}
    series = metrics.known(metrics.TLS_NOT_AFTER)
    return {values for values in series if values[0].startswith(_HOSTS) and values[0] not in configured}


CONTENT = (Operation.MANIFEST, Operation.BLOB)
"""The operations of a pull."""
LISTS = (Operation.TAGS, Operation.REFERRERS)
OTHER_ROUTES = ("token", "other")
TOKEN = "token"  # noqa: S105 - an operation
ERRORS = (
    "dns",
    "connect",
    "tls",
    "timeout",
    "reset",
    "truncated",
    "protocol",
    "overload",
    "redirect_blocked",
    "realm_blocked",
    "digest_mismatch",
)
"""The kinds of upstream errors."""

_CODES = {
    Operation.MANIFEST: (200, 403, 404, 499, 500, 502, 503, 504),
    Operation.BLOB: (200, 206, 403, 404, 499, 500, 502, 503, 504),
    Operation.TAGS: (200, 403, 404),
    Operation.REFERRERS: (200, 403, 404),
    Operation.PING: (200,),
    TOKEN: (200,),
    "other": (400, 405),
}
_UPSTREAM_CODES = {
    Operation.MANIFEST: (200, 401, 403, 404, 429, 500, 503),
    Operation.BLOB: (200, 206, 401, 403, 404, 429, 500, 503),
    Operation.TAGS: (200, 401, 404),
    Operation.REFERRERS: (200, 401, 404),
    TOKEN: (200, 401, 403, 404, 500, 503),
}
_VALUES: dict[MetricWrapperBase, tuple[str, ...]] = {
    metrics.HTTP_ABORTED: (
        "client_gone",
        "slow_client",
        "upstream",
        "store",
        "digest_mismatch",
        "internal",
        "shutdown",
    ),
    metrics.HTTP_REJECTED: REJECTIONS,
    metrics.HTTP_CONNECTIONS_REFUSED: ("limit", "unread", "slow", "heads", "handshake", "system"),
    metrics.ADMIN_CONNECTIONS_REFUSED: ("limit", "unread", "slow", "heads", "system"),
    metrics.PROOFS: ("known", "given", "refused", "last", "unreachable", "overload"),
    metrics.CLIENT_SCOPES: ("kept", "merged", "dropped"),
    metrics.CLIENT_TOKENS: ("issued", "refused"),
    metrics.CACHE_EVICTIONS: ("size", "corrupt"),
    metrics.CACHE_CORRUPTIONS: ("ingest", "read"),
    metrics.CACHE_WRITE_ERRORS: REASONS,
    metrics.CACHE_WRITE_ERROR_AT: REASONS,
    metrics.CONFIG_RELOADS: ("ok", "failed"),
}
_BY_UPSTREAM: dict[MetricWrapperBase, tuple[str, ...]] = {
    metrics.UPSTREAM_ERRORS: ERRORS,
    metrics.UPSTREAM_DURATION: (*CONTENT, *LISTS, TOKEN),
    metrics.TOKEN_REQUESTS: ("cached", "fetched", "joined", "denied", "error"),
    metrics.SCOPES: ("kept", "replaced", "added", "dropped"),
}
_PER_UPSTREAM: tuple[MetricWrapperBase, ...] = (
    metrics.UPSTREAM_RESUMES,
    metrics.UPSTREAM_RATE_LIMITED,
    metrics.UPSTREAM_RETRIES,
    metrics.UPSTREAM_REFUSED,
    metrics.UPSTREAM_BYTES,
    metrics.UPSTREAM_IN_FLIGHT,
    metrics.UPSTREAM_QUEUE,
    metrics.UPSTREAM_LAST_SUCCESS,
    metrics.TOKEN_DURATION,
)
RATE_LIMITS: tuple[Gauge, ...] = (
    metrics.UPSTREAM_RATE_LIMIT,
    metrics.UPSTREAM_RATE_LIMIT_REMAINING,
    metrics.UPSTREAM_RATE_LIMIT_WINDOW,
    metrics.UPSTREAM_RATE_LIMIT_RESET,
)
"""They have series only for what registries report."""
_OF_UPSTREAMS = (*_BY_UPSTREAM, *_PER_UPSTREAM, metrics.UPSTREAM_REQUESTS, metrics.UPSTREAM_UP)
"""All metrics whose first label is the upstream, except REWRITES."""


def prepare_series(config: Config, rate_limits: AbstractSet[tuple[str, str]] = frozenset()) -> None:
    """Create the series of the configuration that is now active, and delete stale ones.

    `rate_limits` are upstream and credential of the reported rate limits that stay. Every upstream, rule and known
    label value gets its series; existing series keep their values.
    """
    _prepare_requests()
    for metric, values in _VALUES.items():
        _touch(metric, ((value,) for value in values))
    rules = set(_rules(config))
    forget_stale_series(config, _OF_UPSTREAMS, rules)
    forget_rate_limits(config, rate_limits)
    for upstream in config.registries:
        _prepare_upstream(upstream)
    _touch(metrics.REWRITES, rules)


def note_config_success() -> None:
    """Set the metrics: the newest configuration is active."""
    metrics.CONFIG_SUCCESSFUL.set(1)
    metrics.CONFIG_SUCCESS_TIME.set(time.time())


def _prepare_requests() -> None:
    for route, codes in _CODES.items():
        _touch(metrics.HTTP_REQUESTS, ((route, str(code)) for code in codes))
    _touch(metrics.HTTP_IN_FLIGHT, ((operation,) for operation in Operation))
    nothing = [(route, "") for route in (Operation.PING, *CONTENT, *LISTS, *OTHER_ROUTES)]
    served = [(Operation.MANIFEST, result) for result in CacheResult]
    served += [(Operation.BLOB, result) for result in CacheResult if result is not CacheResult.STALE]
    _touch(metrics.HTTP_FIRST_BYTE, served)
    _touch(metrics.HTTP_DURATION, [*nothing, *served])
    _touch(metrics.HTTP_BYTES, [*nothing, *served])
    _touch(metrics.CACHE_REQUESTS, product(("tag", "manifest", "blob"), CacheResult))


def _prepare_upstream(upstream: str) -> None:
    for metric, values in _BY_UPSTREAM.items():
        _touch(metric, ((upstream, value) for value in values))
    for metric in _PER_UPSTREAM:
        _touch(metric, [(upstream,)])
    for operation, codes in _UPSTREAM_CODES.items():
        _touch(metrics.UPSTREAM_REQUESTS, ((upstream, operation, str(code)) for code in codes))
    if (upstream,) not in metrics.known(metrics.UPSTREAM_UP):  # a reload keeps the value of an upstream that is down
        metrics.UPSTREAM_UP.labels(upstream).set(1)


def _rules(config: Config) -> Iterator[tuple[str, str]]:
    for upstream, entry in config.registries.items():
        own = (rewrite for endpoint in entry.endpoints for rewrite in endpoint.rewrites or ())
        for rewrite in (*entry.rewrites, *own):
            yield upstream, rule_label(rewrite.pattern)


def _touch(metric: MetricWrapperBase, labels: Iterable[tuple[str, ...]]) -> None:
    """Create the series with these label values; a new one starts at 0."""
    for values in labels:
        metric.labels(*values)
