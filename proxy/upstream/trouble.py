"""What errors of a request to the outside mean for an endpoint: nothing above this knows aiohttp's exceptions."""

from enum import Enum, auto

import aiohttp

from proxy.routing.table import Target
from proxy.transport.limits import QueueFull
from proxy.transport.redirect import RedirectRefused
from proxy.transport.trouble import connection_trouble, refused_address
from proxy.upstream.failure import EndpointFailure, Refused, TlsFailed, Unavailable

TROUBLE = (aiohttp.ClientError, TimeoutError, OSError, QueueFull, RedirectRefused)
"""What a request to the outside can end with."""


class Waiting(Enum):
    """What a request waits for: where its time went is what the operator wants to know."""

    PLACE = auto()
    TOKEN = auto()
    ANSWER = auto()
    BODY = auto()


_TOO_LATE = {
    Waiting.PLACE: "{host}: all connections that it may get at once are in use (maxConnections)",
    Waiting.TOKEN: "no token for {host} came in time: its token server or a credential helper is slow",
    Waiting.ANSWER: "{host} did not answer in time",
    Waiting.BODY: "{host} did not send its whole answer in time",
}


def translate(error: BaseException, target: Target, *, spent: Waiting | None) -> tuple[EndpointFailure, str]:
    """What an error means for the endpoint, and its reason for the metrics; the message never holds a URL's query.

    `spent` tells what was being waited for when the budget was over; None while there is some left.
    """
    host = target.endpoint.origin.authority
    if (refused := refused_address(error)) is not None:
        return Refused(f"{host} redirects where we do not go: {refused}"), "redirect_blocked"
    if isinstance(error, RedirectRefused):
        return Refused(str(error)), "redirect_blocked"
    if isinstance(error, QueueFull):
        return Unavailable(f"{host}: {error}", limited=True), "overload"
    if spent is not None:
        limited = spent is Waiting.PLACE
        failure = Unavailable(_TOO_LATE[spent].format(host=host), timeout=True, limited=limited)
        return failure, "overload" if limited else "timeout"
    reason, text = connection_trouble(error)
    if reason == "tls":
        return Unavailable(f"{host} {text}", lasting=True, error=TlsFailed), reason
    return Unavailable(f"{host} {text}", timeout=reason == "timeout"), reason
