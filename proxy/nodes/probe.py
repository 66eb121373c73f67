"""Whether it is a scope-proxy that answers at an address, asked from this node."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from proxy.config.address import Origin
from proxy.transport.verification import client_context

PROBE_TIMEOUT = 3.0
"""Seconds for one question."""
PROBE_PAUSE = 0.5
"""Seconds between two questions."""
_PRODUCT = "scope-proxy"
_ANSWERS = {200, 401}  # 401 where clients have to authenticate


class Probed(StrEnum):
    """What answers at an address."""

    OURS = "scope-proxy answers"
    OTHER = "something that is not scope-proxy answers"
    NOTHING = "nothing answers"


def ask(url: str, ca: str | None = None, *, verify: bool = True) -> Probed:
    """Ask once, without any forward proxy; `ca` is the authority of an https address, in PEM.

    Nothing secret is sent: who only wants to know whether something serves may do without `verify`.
    """
    origin = Origin.parse(url)
    connection = _connection(origin, ca, verify=verify)
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": f"{_PRODUCT}-node"})
        response = connection.getresponse()
        ours = response.status in _ANSWERS and response.headers.get("Server") == _PRODUCT
    except ssl.SSLCertVerificationError:
        return Probed.OTHER
    except OSError:
        return Probed.NOTHING
    except http.client.HTTPException:
        return Probed.OTHER
    else:
        return Probed.OURS if ours else Probed.OTHER
    finally:
        connection.close()


def usable(answers: Sequence[Probed]) -> bool:
    """Whether a node may be pointed there: one answers, and none of the others is somebody else."""
    return Probed.OURS in answers and Probed.OTHER not in answers


def wait(urls: Sequence[str], ca: str | None, timeout: float, stopping: threading.Event) -> dict[str, Probed]:
    """Ask until the addresses can be used, at the most `timeout` seconds; the last answers."""
    return _repeat(lambda: {url: ask(url, ca) for url in urls}, timeout, stopping)


def _repeat(question: Callable[[], dict[str, Probed]], timeout: float, stopping: threading.Event) -> dict[str, Probed]:
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
