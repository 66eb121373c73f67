"""All metrics. No label takes a value that a client can choose freely."""

import os
import tempfile
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    multiprocess,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the directory in which several workers keep their counts; prometheus_client reads it on import."""

disable_created_metrics()  # type: ignore[no-untyped-call] # an extra series per counter, only for OpenMetrics

_SECONDS = (0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKEN_SECONDS = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LAG_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 2.5)
_STATUSES = frozenset(str(int(status)) for status in HTTPStatus)

Metric = TypeVar("Metric", bound=MetricWrapperBase)
Label = str | int
"""A label value; numbers are converted to text."""


class Bound(dict[tuple[Label, ...], Metric], Generic[Metric]):
    """Caches the children of a metric by their label values: a lookup in the library is slow.

    Bounded, because no label takes a value that a client can choose freely.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric
        _bound.append(self)

    def __missing__(self, values: tuple[Label, ...]) -> Metric:
        child = self[values] = self._metric.labels(*values)
        return child

    def forget(self, metric: MetricWrapperBase, stale: AbstractSet[tuple[str, ...]]) -> None:
        """Drop the cached children of removed series: their counts would be lost."""
        if metric is self._metric:
            for values in [values for values in self if tuple(map(str, values)) in stale]:
                del self[values]


_bound: list[Bound[Any]] = []  # one for each metric and module, created on import


def status_label(status: int) -> str:
    """A status as a label value; `other` for unregistered ones, of which a server could send any number."""
    text = str(status)
    return text if text in _STATUSES else "other"


BUILD_INFO = Gauge(
    "scope_proxy_build_info",
    "Running versions; always 1",
    ["version", "python", "aiohttp"],
    multiprocess_mode="max",
)

HTTP_REQUESTS = Counter(
    "scope_proxy_http_requests_total", "Responses to requests of nodes, by route and status", ["route", "code"]
)
HTTP_DURATION = Histogram(
    "scope_proxy_http_request_duration_seconds", "Time to the last byte", ["route", "cache"], buckets=_SECONDS
)
HTTP_FIRST_BYTE = Histogram(
    "scope_proxy_http_first_byte_seconds",
    "Time until the first byte of a manifest or blob was ready to be sent",
    ["route", "cache"],
    buckets=_SECONDS,
)
HTTP_IN_FLIGHT = Gauge(
    "scope_proxy_http_requests_in_flight",
    "Requests of nodes in progress",
    ["route"],
    multiprocess_mode="livesum",
)
HTTP_BYTES = Counter("scope_proxy_http_response_bytes_total", "Bytes of bodies sent to nodes", ["route", "cache"])
HTTP_ABORTED = Counter(
    "scope_proxy_http_aborted_total",
    "Requests aborted before the end of their response: client_gone, slow_client, upstream, store, digest_mismatch, "
    "internal, shutdown",
    ["reason"],
)
HTTP_REJECTED = Counter(
    "scope_proxy_http_rejected_total",
    "Requests rejected without an upstream request: bad_name, bad_digest, bad_ns, malformed, too_large, method, auth, "
    "access, overload",
    ["reason"],
)
HTTP_CONNECTIONS = Gauge("scope_proxy_http_connections", "Open connections of nodes", multiprocess_mode="livesum")
HTTP_CONNECTIONS_REFUSED = Counter(
    "scope_proxy_http_connections_refused_total",
    "Connections closed without a response: limit (also idle ones closed for new ones), unread (the client read too "
    "slowly), slow (no request arrived in time), heads (incomplete requests used too much memory), handshake (TLS "
    "failed), system (no free descriptor or memory)",
    ["reason"],
)
ADMIN_CONNECTIONS_REFUSED = Counter(
    "scope_proxy_admin_connections_refused_total",
    "Connections to the admin ports closed without a response: limit, unread, slow, heads, system",
    ["reason"],
)

UPSTREAM_REQUESTS = Counter(
    "scope_proxy_upstream_requests_total", "Responses of upstreams, by operation and status", ["upstream", "op", "code"]
)
UPSTREAM_ERRORS = Counter(
    "scope_proxy_upstream_errors_total",
    "Upstream requests without a usable response: dns, connect, tls, timeout, reset, truncated, protocol, overload, "
    "redirect_blocked, realm_blocked, digest_mismatch",
    ["upstream", "reason"],
)
UPSTREAM_RESUMES = Counter(
    "scope_proxy_upstream_resumes_total", "Blob downloads resumed after an interruption or a stall", ["upstream"]
)
UPSTREAM_RATE_LIMITED = Counter("scope_proxy_upstream_rate_limited_total", "Responses with status 429", ["upstream"])
UPSTREAM_RATE_LIMIT = Gauge(
    "scope_proxy_upstream_rate_limit_requests",
    "Requests that the registry allows in a window, as it reports",
    ["upstream", "credential"],
    multiprocess_mode="mostrecent",
)
UPSTREAM_RATE_LIMIT_REMAINING = Gauge(
    "scope_proxy_upstream_rate_limit_remaining",
    "Requests that are left until the reset time, as the registry reported last",
    ["upstream", "credential"],
    multiprocess_mode="mostrecent",
)
UPSTREAM_RATE_LIMIT_WINDOW = Gauge(
    "scope_proxy_upstream_rate_limit_window_seconds",
    "Window of the rate limit",
    ["upstream", "credential"],
    multiprocess_mode="mostrecent",
)
UPSTREAM_RATE_LIMIT_RESET = Gauge(
    "scope_proxy_upstream_rate_limit_reset_timestamp_seconds",
    "Time until which the remaining requests count: the reported reset, or one window after the report",
    ["upstream", "credential"],
    multiprocess_mode="mostrecent",
)
UPSTREAM_DURATION = Histogram(
    "scope_proxy_upstream_request_duration_seconds",
    "Time until the response headers of an upstream, its token server or its redirect target arrive",
    ["upstream", "op"],
    buckets=_SECONDS,
)
UPSTREAM_RETRIES = Counter(
    "scope_proxy_upstream_retries_total",
    "Retried requests: sent to the next endpoint, after a pause, or because the first has no response yet",
    ["upstream"],
)
UPSTREAM_REFUSED = Counter(
    "scope_proxy_upstream_refused_total",
    "Requests for which no configured credential was sufficient: token denied, or 401 or 403 to a fresh token",
    ["upstream"],
)
UPSTREAM_BYTES = Counter("scope_proxy_upstream_bytes_total", "Bytes of bodies received from upstreams", ["upstream"])
UPSTREAM_IN_FLIGHT = Gauge(
    "scope_proxy_upstream_in_flight",
    "Requests to upstreams in flight, until their response body ends",
    ["upstream"],
    multiprocess_mode="livesum",
)
UPSTREAM_QUEUE = Gauge(
    "scope_proxy_upstream_queue",
    "Requests that wait because their host has reached maxConnections",
    ["upstream"],
    multiprocess_mode="livesum",
)
UPSTREAM_UP = Gauge(
    "scope_proxy_upstream_up",
    "0 if the last request to every endpoint failed, else 1; also 1 before the first request",
    ["upstream"],
    multiprocess_mode="mostrecent",
)
UPSTREAM_LAST_SUCCESS = Gauge(
    "scope_proxy_upstream_last_success_timestamp_seconds",
    "Time of the last successful response, including 404; 0 before the first one",
    ["upstream"],
    multiprocess_mode="max",
)

TOKEN_REQUESTS = Counter(
    "scope_proxy_token_requests_total",
    "Token needs: cached, fetched, joined (waited for another token request), denied, error",
    ["upstream", "result"],
)
TOKEN_DURATION = Histogram(
    "scope_proxy_token_fetch_duration_seconds",
    "Duration of token requests, including denied ones",
    ["upstream"],
    buckets=_TOKEN_SECONDS,
)
SCOPES = Counter(
    "scope_proxy_scopes_total",
    "Scopes of challenges: kept (the challenge named the requested scope), replaced (it named others), added (it named "
    "none), dropped (named by a challenge and not requested)",
    ["upstream", "outcome"],
)
PROOFS = Counter(
    "scope_proxy_client_proofs_total",
    "Access checks of clients with credentials of their own: known (proven recently), given, refused, last (the "
    "upstream is unavailable and the last proof is used), unreachable, overload (a limit of scope-proxy prevented it)",
    ["result"],
)

REWRITES = Counter(
    "scope_proxy_rewrites_total",
    "Requests whose repository a rule rewrote, by the rule's pattern",
    ["upstream", "rule"],
)

CLIENT_SCOPES = Counter(
    "scope_proxy_client_scopes_total",
    "Scopes that clients request from /token: kept, merged (same repository as another scope), dropped",
    ["outcome"],
)
CLIENT_TOKENS = Counter(
    "scope_proxy_client_tokens_total", "Requests of clients for a scope-proxy token: issued, refused", ["result"]
)

CACHE_REQUESTS = Counter(
    "scope_proxy_cache_requests_total",
    "Pulls by how they were served: hit, join, miss, stale, bypass",
    ["kind", "result"],
)
CACHE_BYTES = Gauge("scope_proxy_cache_bytes", "Stored bytes", multiprocess_mode="mostrecent")
CACHE_LIMIT_BYTES = Gauge(
    "scope_proxy_cache_limit_bytes", "Limit of stored bytes (maxSize)", multiprocess_mode="mostrecent"
)
CACHE_OBJECTS = Gauge("scope_proxy_cache_objects", "Stored blobs and manifests", multiprocess_mode="mostrecent")
CACHE_EVICTIONS = Counter("scope_proxy_cache_evictions_total", "Removed blobs and manifests: size, corrupt", ["reason"])
CACHE_CORRUPTIONS = Counter(
    "scope_proxy_cache_corruptions_total", "Content that did not match its digest: ingest, read", ["stage"]
)
CACHE_WRITE_ERRORS = Counter(
    "scope_proxy_cache_write_errors_total",
    "Content that could not be stored: enospc, edquot, eio, erofs, emfile, timeout, other",
    ["reason"],
)
CACHE_WRITE_ERROR_AT = Gauge(
    "scope_proxy_cache_last_write_error_timestamp_seconds",
    "Time of the last failure to store content, by the same reasons; 0 before the first one",
    ["reason"],
    multiprocess_mode="max",
)
DOWNLOADS = Gauge("scope_proxy_downloads_in_flight", "Downloads in flight", multiprocess_mode="livesum")
COALESCED_WAITERS = Gauge(
    "scope_proxy_coalesced_waiters",
    "Clients that read from a download that another client started",
    multiprocess_mode="livesum",
)

CONFIG_RELOADS = Counter("scope_proxy_config_reloads_total", "Configuration reloads: ok, failed", ["result"])
CONFIG_SUCCESSFUL = Gauge(
    "scope_proxy_config_last_reload_successful",
    "1, or 0 if the newest configuration could not be loaded and an older one is in use",
    multiprocess_mode="mostrecent",
)
CONFIG_SUCCESS_TIME = Gauge(
    "scope_proxy_config_last_reload_success_timestamp_seconds",
    "Time when the configuration in use was loaded",
    multiprocess_mode="max",
)
TLS_NOT_AFTER = Gauge(
    "scope_proxy_tls_certificate_not_after_timestamp_seconds",
    "Time when a certificate expires, by its setting",
    ["name"],
    multiprocess_mode="mostrecent",
)
LOOP_LAG = Histogram(
    "scope_proxy_event_loop_lag_seconds", "How late the event loop runs its tasks", buckets=_LAG_SECONDS
)


def registry() -> CollectorRegistry:
    """All metrics, summed over all workers; collecting them reads files."""
    if DIRECTORY_VARIABLE not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def render(accept: str = "") -> tuple[bytes, str]:
    """All metrics in a format that the scraper accepts, with its media type; only OpenMetrics has exemplars. Blocks."""
    encode, media_type = choose_encoder(accept)
    return encode(registry()), media_type


def known(metric: MetricWrapperBase) -> set[tuple[str, ...]]:
    """The label values of all series of a metric, without the bucket label `le`."""
    samples = (sample for family in metric.collect() for sample in family.samples)
    return {tuple(value for name, value in sample.labels.items() if name != "le") for sample in samples}


def can_forget() -> bool:
    """Whether series can be removed; not with several workers: prometheus_client keeps them until the program ends."""
    return DIRECTORY_VARIABLE not in os.environ


def forget(metric: MetricWrapperBase, stale: AbstractSet[tuple[str, ...]]) -> None:
    """Remove the series with these label values; only if `can_forget()`."""
    for values in stale:
        metric.remove(*values)
    for bound in _bound:
        bound.forget(metric, stale)


def shared_directory() -> str:
    """Create a directory in which several workers keep their counts."""
    return tempfile.mkdtemp(prefix="scope-proxy-metrics-")


def forget_process(pid: int) -> None:
    """Remove the gauges of a worker that has exited."""
    if DIRECTORY_VARIABLE in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
