"""Every metric, in one place; no label takes a value that a client can invent."""

import os
import tempfile

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several workers keep their counts; the library reads it when it is imported."""

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, of use to OpenMetrics alone

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

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
    "scope_proxy_http_request_duration_seconds", "Time to the last byte", ["route"], buckets=_SECONDS
)
HTTP_IN_FLIGHT = Gauge(
    "scope_proxy_http_requests_in_flight",
    "Requests of nodes being answered",
    ["route"],
    multiprocess_mode="livesum",
)
HTTP_BYTES = Counter("scope_proxy_http_response_bytes_total", "Bytes of bodies sent to nodes", ["route"])
HTTP_ABORTED = Counter(
    "scope_proxy_http_aborted_total",
    "Bodies cut before their end: client_gone, upstream, store, digest_mismatch",
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

TOKEN_REQUESTS = Counter(
    "scope_proxy_token_requests_total",
    "Tokens needed, by how: cached, fetched, joined (waited for another's request), denied, error",
    ["upstream", "result"],
)
SCOPES = Counter(
    "scope_proxy_scopes_total",
    "Scopes: kept (asked for as challenged), replaced (another was computed), added (the challenge named none), "
    "dropped (named by a challenge and left out)",
    ["upstream", "outcome"],
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
DOWNLOADS = Gauge("scope_proxy_downloads_in_flight", "Downloads that are under way", multiprocess_mode="livesum")
COALESCED_WAITERS = Gauge(
    "scope_proxy_coalesced_waiters",
    "Clients that read behind somebody else's download",
    multiprocess_mode="livesum",
)


def render() -> bytes:
    """All metrics as Prometheus reads them, those of all workers together; reads files."""
    if FOLDER_VARIABLE not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def shared_folder() -> str:
    """A new folder in which several workers keep their counts."""
    return tempfile.mkdtemp(prefix="scope-proxy-metrics-")


def forget_process(pid: int) -> None:
    """Drop the gauges of a worker that has ended."""
    if FOLDER_VARIABLE in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
