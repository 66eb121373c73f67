"""Series that exist from the start and end with their subject: no gap in a graph, no alert from a stale one."""

import math
import time
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import product

from prometheus_client.metrics import MetricWrapperBase

from proxy.config.model import Config
from proxy.observe import metrics
from proxy.oci.request import Operation
from proxy.pull.blobs.live import CacheResult
from proxy.routing.rewrite import rule_label
from proxy.server.refusals import REJECTIONS
from proxy.store.disk import REASONS

_HOSTS = "hosts."


def forget_the_gone(
    config: Config, of_upstreams: Iterable[MetricWrapperBase], rules: AbstractSet[tuple[str, str]]
) -> None:
    """Remove the series of upstreams, rules and client certificates that a configuration does not have.

    `of_upstreams` are the metrics whose first label is the upstream. With several workers nothing can be removed:
    what would raise an alert is set to what raises none.
    """
    if not metrics.can_forget():
        _quieten(config)
        return
    for metric in of_upstreams:
        metrics.forget(metric, {values for values in metrics.known(metric) if values[0] not in config.registries})
    metrics.forget(metrics.REWRITES, metrics.known(metrics.REWRITES) - rules)
    metrics.forget(metrics.TLS_NOT_AFTER, _gone_certificates(config))


def _quieten(config: Config) -> None:
    """What was an upstream is not down: nobody asks for it any more; and a certificate that is not shown cannot end."""
    for values in metrics.known(metrics.UPSTREAM_UP):
        if values[0] not in config.registries:
            metrics.UPSTREAM_UP.labels(*values).set(1)
    for values in _gone_certificates(config):
        metrics.TLS_NOT_AFTER.labels(*values).set(math.inf)


def _gone_certificates(config: Config) -> set[tuple[str, ...]]:
    """Those of `hosts` that are gone; the listeners' stay in use until the next start."""
    shown = {f"{_HOSTS}{name}.tls" for name, host in config.hosts.items() if host.tls.cert_file is not None}
    named = metrics.known(metrics.TLS_NOT_AFTER)
    return {values for values in named if values[0].startswith(_HOSTS) and values[0] not in shown}


CONTENT = (Operation.MANIFEST, Operation.BLOB)
"""What pulls consist of."""
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
"""Upstream trouble."""

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
    metrics.HTTP_CONNECTIONS_REFUSED: ("limit", "slow", "heads", "handshake", "system"),
    metrics.ADMIN_CONNECTIONS_REFUSED: ("limit", "slow", "heads", "system"),
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
_OF_UPSTREAMS = (*_BY_UPSTREAM, *_PER_UPSTREAM, metrics.UPSTREAM_REQUESTS, metrics.UPSTREAM_UP)
"""All whose first label is the upstream, those of rules excepted."""


def prepare_series(config: Config) -> None:
    """Create the series of a configuration that is put in force now, and remove those of upstreams and rules before it.

    Every upstream, rule and known value has its series; those that are there keep their values.
    """
    _prepare_requests()
    for metric, values in _VALUES.items():
        _touch(metric, ((value,) for value in values))
    rules = set(_rules(config))
    forget_the_gone(config, _OF_UPSTREAMS, rules)
    for upstream in config.registries:
        _prepare_upstream(upstream)
    _touch(metrics.REWRITES, rules)


def note_config_success() -> None:
    """The newest configuration is in force."""
    metrics.CONFIG_SUCCESSFUL.set(1)
    metrics.CONFIG_SUCCESS_TIME.set(time.time())


def _prepare_requests() -> None:
    for route, codes in _CODES.items():
        _touch(metrics.HTTP_REQUESTS, ((route, str(code)) for code in codes))
    _touch(metrics.HTTP_IN_FLIGHT, ((operation,) for operation in Operation))
    nothing = [(route, "") for route in (Operation.PING, *CONTENT, *LISTS, *OTHER_ROUTES)]
    served = [(Operation.MANIFEST, way) for way in CacheResult]
    served += [(Operation.BLOB, way) for way in CacheResult if way is not CacheResult.STALE]
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
    if (upstream,) not in metrics.known(metrics.UPSTREAM_UP):  # one that is down stays down in a reload
        metrics.UPSTREAM_UP.labels(upstream).set(1)


def _rules(config: Config) -> Iterator[tuple[str, str]]:
    for upstream, entry in config.registries.items():
        own = (rewrite for endpoint in entry.endpoints for rewrite in endpoint.rewrites or ())
        for rewrite in (*entry.rewrites, *own):
            yield upstream, rule_label(rewrite.pattern)


def _touch(metric: MetricWrapperBase, labels: Iterable[tuple[str, ...]]) -> None:
    """Create the children with these values; their value is 0."""
    for values in labels:
        metric.labels(*values)
