"""Every metric, in one place; no label takes a value that a client can invent."""

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

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several workers keep their counts; the library reads it when it is imported."""

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, of use to OpenMetrics alone

_SECONDS = (0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKEN_SECONDS = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LAG_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 2.5)
_STATUSES = frozenset(str(int(status)) for status in HTTPStatus)

Metric = TypeVar("Metric", bound=MetricWrapperBase)
Label = str | int
"""A value of a label; numbers are written as they are."""


class Bound(dict[tuple[Label, ...], Metric], Generic[Metric]):
    """The children of a metric by the values of their labels, each looked up in the library only once.

    As bounded as the labels are: none of them takes a value that a client can invent.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric
        _bound.append(self)

    def __missing__(self, values: tuple[Label, ...]) -> Metric:
        child = self[values] = self._metric.labels(*values)
        return child

    def forget(self, metric: MetricWrapperBase, gone: AbstractSet[tuple[str, ...]]) -> None:
        """Drop the children that the metric has no more: they would count into nothing."""
        if metric is self._metric:
            for values in [values for values in self if tuple(map(str, values)) in gone]:
                del self[values]


_bound: list[Bound[Any]] = []  # one for each metric and module, made when they are imported


def status_label(status: int) -> str:
    """A status as a label; `other` for what no standard knows, which a server could send in any number."""
    text = str(status)
    return text if text in _STATUSES else "other"


BUILD_INFO = Gauge(
    "scope_proxy_build_info",
    "Version of the program; always 1",
    ["version", "python", "aiohttp"],
    multiprocess_mode="max",
)

HTTP_REQUESTS = Counter(
    "scope_proxy_http_requests_total", "Requests of nodes answered, by what was asked and status", ["route", "code"]
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
    "Requests of nodes being answered",
    ["route"],
    multiprocess_mode="livesum",
)
HTTP_BYTES = Counter("scope_proxy_http_response_bytes_total", "Bytes of bodies sent to nodes", ["route", "cache"])
HTTP_ABORTED = Counter(
    "scope_proxy_http_aborted_total",
    "Requests cut before the end of their answer: client_gone, slow_client, upstream, store, digest_mismatch, "
    "internal, shutdown",
    ["reason"],
)
HTTP_REJECTED = Counter(
    "scope_proxy_http_rejected_total",
    "Requests refused without asking an upstream: bad_name, bad_digest, bad_ns, malformed, too_large, method, auth, "
    "access, overload",
    ["reason"],
)
HTTP_CONNECTIONS = Gauge("scope_proxy_http_connections", "Connections of nodes", multiprocess_mode="livesum")
HTTP_CONNECTIONS_REFUSED = Counter(
    "scope_proxy_http_connections_refused_total",
    "Connections closed without an answer: limit (also idle ones that others replaced), slow (no request came in "
    "time), heads (incomplete requests took too much memory), handshake (TLS failed), system (no descriptor or memory)",
    ["reason"],
)
ADMIN_CONNECTIONS_REFUSED = Counter(
    "scope_proxy_admin_connections_refused_total",
    "Connections to the operator's ports closed without an answer: limit, slow, heads, system",
    ["reason"],
)

UPSTREAM_REQUESTS = Counter(
    "scope_proxy_upstream_requests_total", "Requests to upstreams, by operation and status", ["upstream", "op", "code"]
)
UPSTREAM_ERRORS = Counter(
    "scope_proxy_upstream_errors_total",
    "Upstream trouble: dns, connect, tls, timeout, reset, truncated, protocol, overload, redirect_blocked, "
    "realm_blocked, digest_mismatch",
    ["upstream", "reason"],
)
UPSTREAM_RESUMES = Counter(
    "scope_proxy_upstream_resumes_total", "Bodies gone on with after a break or a stall", ["upstream"]
)
UPSTREAM_RATE_LIMITED = Counter("scope_proxy_upstream_rate_limited_total", "Answers 429 of upstreams", ["upstream"])
UPSTREAM_DURATION = Histogram(
    "scope_proxy_upstream_request_duration_seconds",
    "Time until an upstream, its token server or who it redirects to has sent the head of its answer",
    ["upstream", "op"],
    buckets=_SECONDS,
)
UPSTREAM_RETRIES = Counter(
    "scope_proxy_upstream_retries_total",
    "Requests sent again: to the next endpoint, after a pause, or as the first has no answer yet",
    ["upstream"],
)
UPSTREAM_REFUSED = Counter(
    "scope_proxy_upstream_refused_total",
    "Requests that no credential of the configuration was good enough for: no token, or 401 or 403 with a fresh one",
    ["upstream"],
)
UPSTREAM_BYTES = Counter("scope_proxy_upstream_bytes_total", "Bytes of bodies received from upstreams", ["upstream"])
UPSTREAM_IN_FLIGHT = Gauge(
    "scope_proxy_upstream_in_flight",
    "Requests to upstreams under way, the bodies of their answers included",
    ["upstream"],
    multiprocess_mode="livesum",
)
UPSTREAM_QUEUE = Gauge(
    "scope_proxy_upstream_queue",
    "Requests that wait because their host gets no more at one time (maxConnections)",
    ["upstream"],
    multiprocess_mode="livesum",
)
UPSTREAM_UP = Gauge(
    "scope_proxy_upstream_up",
    "0 where every endpoint failed when it was last asked, else 1; also before the first request",
    ["upstream"],
    multiprocess_mode="mostrecent",
)
UPSTREAM_LAST_SUCCESS = Gauge(
    "scope_proxy_upstream_last_success_timestamp_seconds",
    "When an upstream last answered as it should, 404 included; 0 before the first time",
    ["upstream"],
    multiprocess_mode="max",
)

TOKEN_REQUESTS = Counter(
    "scope_proxy_token_requests_total",
    "Tokens needed, by how: cached, fetched, joined (waited for another's request), denied, error",
    ["upstream", "result"],
)
TOKEN_DURATION = Histogram(
    "scope_proxy_token_fetch_duration_seconds",
    "Time that it took to get a token, or to be refused one",
    ["upstream"],
    buckets=_TOKEN_SECONDS,
)
SCOPES = Counter(
    "scope_proxy_scopes_total",
    "Scopes: kept (asked for as challenged), replaced (another was computed), added (the challenge named none), "
    "dropped (named by a challenge and left out)",
    ["upstream", "outcome"],
)
PROOFS = Counter(
    "scope_proxy_client_proofs_total",
    "Rights of clients with credentials of their own: known (proven lately), given, refused, last (the last proof "
    "counts while the upstream cannot be asked), unreachable, overload (limits of our own kept it from being asked)",
    ["result"],
)

REWRITES = Counter(
    "scope_proxy_rewrites_total",
    "Requests whose repository a rule rewrote, by the rule's pattern",
    ["upstream", "rule"],
)

CLIENT_SCOPES = Counter(
    "scope_proxy_client_scopes_total",
    "Scopes that clients ask of /token: kept, merged (came to the same as another), dropped",
    ["outcome"],
)
CLIENT_TOKENS = Counter(
    "scope_proxy_client_tokens_total", "Requests of clients for a token of ours: issued, refused", ["result"]
)

CACHE_REQUESTS = Counter(
    "scope_proxy_cache_requests_total",
    "Pulls by how they were served: hit, join, miss, stale, bypass",
    ["kind", "result"],
)
CACHE_BYTES = Gauge("scope_proxy_cache_bytes", "Bytes that are stored", multiprocess_mode="mostrecent")
CACHE_LIMIT_BYTES = Gauge(
    "scope_proxy_cache_limit_bytes", "Bytes that may be stored (maxSize)", multiprocess_mode="mostrecent"
)
CACHE_OBJECTS = Gauge(
    "scope_proxy_cache_objects", "Blobs and manifests that are stored", multiprocess_mode="mostrecent"
)
CACHE_EVICTIONS = Counter(
    "scope_proxy_cache_evictions_total", "What was removed from the store: size, corrupt", ["reason"]
)
CACHE_CORRUPTIONS = Counter(
    "scope_proxy_cache_corruptions_total", "Content without its digest: at ingest, or when read", ["stage"]
)
CACHE_WRITE_ERRORS = Counter(
    "scope_proxy_cache_write_errors_total",
    "Content that could not be stored: enospc, edquot, eio, erofs, emfile, other",
    ["reason"],
)
CACHE_WRITE_ERROR_AT = Gauge(
    "scope_proxy_cache_last_write_error_timestamp_seconds",
    "When content could last not be stored, by the same reasons; 0 before the first time",
    ["reason"],
    multiprocess_mode="max",
)
DOWNLOADS = Gauge("scope_proxy_downloads_in_flight", "Downloads that are under way", multiprocess_mode="livesum")
COALESCED_WAITERS = Gauge(
    "scope_proxy_coalesced_waiters",
    "Clients that read behind somebody else's download",
    multiprocess_mode="livesum",
)

CONFIG_RELOADS = Counter(
    "scope_proxy_config_reloads_total", "Configurations that were loaded while the program ran: ok, failed", ["result"]
)
CONFIG_SUCCESSFUL = Gauge(
    "scope_proxy_config_last_reload_successful",
    "Whether the newest configuration is in force: 1, or 0 where an older one stayed",
    multiprocess_mode="mostrecent",
)
CONFIG_SUCCESS_TIME = Gauge(
    "scope_proxy_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was loaded",
    multiprocess_mode="max",
)
TLS_NOT_AFTER = Gauge(
    "scope_proxy_tls_certificate_not_after_timestamp_seconds",
    "When a certificate that is shown ends, by the setting that it comes from",
    ["name"],
    multiprocess_mode="mostrecent",
)
LOOP_LAG = Histogram(
    "scope_proxy_event_loop_lag_seconds", "How late the event loop runs what is due", buckets=_LAG_SECONDS
)


def registry() -> CollectorRegistry:
    """All metrics, those of all workers together; collecting them reads files."""
    if FOLDER_VARIABLE not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def render(accept: str = "") -> tuple[bytes, str]:
    """All metrics in the format that a scrape accepts, with its media type; only OpenMetrics has exemplars. Blocks."""
    encode, media_type = choose_encoder(accept)
    return encode(registry()), media_type


def known(metric: MetricWrapperBase) -> set[tuple[str, ...]]:
    """The values of its labels that a metric has series for; the place of a bucket is no label of ours."""
    samples = (sample for family in metric.collect() for sample in family.samples)
    return {tuple(value for name, value in sample.labels.items() if name != "le") for sample in samples}


def can_forget() -> bool:
    """Whether series can be removed; with several workers the library cannot, they stay until the program ends."""
    return FOLDER_VARIABLE not in os.environ


def forget(metric: MetricWrapperBase, gone: AbstractSet[tuple[str, ...]]) -> None:
    """Remove the series with these values of the labels; only where `can_forget` says so."""
    for values in gone:
        metric.remove(*values)
    for bound in _bound:
        bound.forget(metric, gone)


def shared_folder() -> str:
    """A new folder in which several workers keep their counts."""
    return tempfile.mkdtemp(prefix="scope-proxy-metrics-")


def forget_process(pid: int) -> None:
    """Drop the gauges of a worker that has ended."""
    if FOLDER_VARIABLE in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
