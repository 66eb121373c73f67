"""Every metric, in one place; no label takes a value that a client can invent."""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, of use to OpenMetrics alone

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

BUILD_INFO = Gauge("scope_proxy_build_info", "Version of the program; always 1", ["version", "python", "aiohttp"])

HTTP_REQUESTS = Counter(
    "scope_proxy_http_requests_total", "Requests of nodes answered, by what was asked and status", ["route", "code"]
)
HTTP_DURATION = Histogram(
    "scope_proxy_http_request_duration_seconds", "Time to the last byte", ["route"], buckets=_SECONDS
)
HTTP_IN_FLIGHT = Gauge("scope_proxy_http_requests_in_flight", "Requests of nodes being answered", ["route"])
HTTP_BYTES = Counter("scope_proxy_http_response_bytes_total", "Bytes of bodies sent to nodes", ["route"])
HTTP_ABORTED = Counter(
    "scope_proxy_http_aborted_total", "Bodies cut before their end: client_gone, upstream, digest_mismatch", ["reason"]
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
