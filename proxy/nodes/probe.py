"""Checks from this node whether a scope-proxy responds at an address."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from proxy.config.address import Origin
from proxy.transport.verification import client_context

PROBE_TIMEOUT = 3.0
"""Timeout of one request in seconds."""
PROBE_PAUSE = 0.5
"""Seconds between two requests."""
_PRODUCT = "scope-proxy"
_STATUSES = {200, 401}  # 401 where clients have to authenticate


class ProbeResult(StrEnum):
    """What responds at an address."""

    OURS = "scope-proxy responds"
    OTHER = "another server than scope-proxy responds"
    NOTHING = "no response"


def is_ours(status: int, server: str | None) -> bool:
    """Whether a response to `/v2/` with this status and `Server` header comes from a scope-proxy."""
    return status in _STATUSES and server == _PRODUCT


def probe(url: str, ca: str | None = None, *, verify: bool = True) -> ProbeResult:
    """Send one request, without a forward proxy; `ca` is the CA of an https address, in PEM.

    The request has no secret: `verify` may be off where only availability matters.
    """
    origin = Origin.parse(url)
    connection = _connection(origin, ca, verify=verify)
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": f"{_PRODUCT}-node"})
        response = connection.getresponse()
        ours = is_ours(response.status, response.headers.get("Server"))
    except ssl.SSLCertVerificationError:
        return ProbeResult.OTHER
    except OSError:
        return ProbeResult.NOTHING
    except http.client.HTTPException:
        return ProbeResult.OTHER
    else:
        return ProbeResult.OURS if ours else ProbeResult.OTHER
    finally:
        connection.close()


def usable(answers: Sequence[ProbeResult]) -> bool:
    """Whether a node can use the addresses: one is a scope-proxy, and none is another server."""
    return ProbeResult.OURS in answers and ProbeResult.OTHER not in answers


def wait(urls: Sequence[str], ca: str | None, timeout: float, stopping: threading.Event) -> dict[str, ProbeResult]:
    """Send requests until the addresses are usable, for at most `timeout` seconds; returns the last results."""
    return _repeat(lambda: {url: probe(url, ca) for url in urls}, timeout, stopping)


def _repeat(
    question: Callable[[], dict[str, ProbeResult]], timeout: float, stopping: threading.Event
) -> dict[str, ProbeResult]:
    deadline = time.monotonic() + timeout
    while True:
        answers = question()
        if usable(list(answers.values())) or time.monotonic() > deadline or stopping.wait(PROBE_PAUSE):
            return answers


def _connection(origin: Origin, ca: str | None, *, verify: bool) -> http.client.HTTPConnection:
    if origin.scheme == "http":
        return http.client.HTTPConnection(origin.host, origin.port, timeout=PROBE_TIMEOUT)
    context = client_context(ca_pem=ca)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(origin.host, origin.port, timeout=PROBE_TIMEOUT, context=context)
