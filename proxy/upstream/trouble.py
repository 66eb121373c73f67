"""What errors of a request to the outside mean for an endpoint: nothing above this knows aiohttp's exceptions."""

from dataclasses import dataclass
from enum import Enum, auto

import aiohttp

from proxy.routing.table import Target
from proxy.transport.limits import QueueFull
from proxy.transport.redirect import RedirectRefused
from proxy.transport.trouble import connection_trouble, is_own_limit, refused_address
from proxy.upstream.failure import EndpointFailure, Refused, TlsFailed, Unavailable

TROUBLE = (aiohttp.ClientError, TimeoutError, OSError, QueueFull, RedirectRefused)
"""What a request to the outside can end with."""


class Waiting(Enum):
    """What a request waits for: where its time went is what the operator wants to know."""

    PLACE = auto()
    TOKEN = auto()
    ANSWER = auto()
    BODY = auto()


@dataclass(frozen=True, slots=True)
class Spent:
    """A budget that is over: what was waited for at its end, and whether limits of our own are to blame."""

    waits_for: Waiting
    is_local: bool


_TOO_LATE = {
    Waiting.PLACE: "{host}: all connections that it may get at once are in use (maxConnections)",
    Waiting.TOKEN: "no token for {host} came in time: its token server or a credential helper is slow",
    Waiting.ANSWER: "{host} did not answer in time",
    Waiting.BODY: "{host} did not send its whole answer in time",
}
_NOT_ASKED = "{host}: the request, or that for its token, waited too long for its turn in scope-proxy (maxConnections)"


def translate(error: BaseException, target: Target, *, spent: Spent | None) -> tuple[EndpointFailure, str]:
    """What an error means for the endpoint, and its reason for the metrics; the message never holds a URL's query.

    `spent` tells where the time went when the budget was over; None while there is some left.
    """
    host = target.endpoint.origin.authority
    if (refused := refused_address(error)) is not None:
        return Refused(f"{host} redirects where we do not go: {refused}"), "redirect_blocked"
    if isinstance(error, RedirectRefused):
        return Refused(str(error)), "redirect_blocked"
    if isinstance(error, QueueFull):
        return _local(f"{host}: {error}"), "overload"
    if spent is not None:
        return _late(spent, host)
    reason, text = connection_trouble(error)
    if is_own_limit(error):
        return _local(f"{host} {text}"), "overload"
    if reason == "tls":
        return Unavailable(f"{host} {text}", lasting=True, error=TlsFailed), reason
    return Unavailable(f"{host} {text}", timeout=reason == "timeout"), reason


def _late(spent: Spent, host: str) -> tuple[EndpointFailure, str]:
    if spent.is_local:
        text = _TOO_LATE[Waiting.PLACE] if spent.waits_for is Waiting.PLACE else _NOT_ASKED
        return _local(text.format(host=host)), "overload"
    return Unavailable(_TOO_LATE[spent.waits_for].format(host=host), timeout=True), "timeout"


def _local(reason: str) -> Unavailable:
    return Unavailable(reason, local=True)
