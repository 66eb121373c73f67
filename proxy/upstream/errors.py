"""Why one endpoint did not give what was requested, and what that means when all of them have been tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp

from proxy.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    TooManyRequests,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.oci.request import Operation
from proxy.routing.table import Route, Target
from proxy.transport.connection_errors import connection_trouble, is_own_limit, refused_address
from proxy.transport.limits import QueueFull
from proxy.transport.redirect import RedirectRefused

ASKED = "asked"
"""The part of an error's detail that names what the client requested."""
LOCAL_RETRY_SECONDS = 1.0
"""After which a node may try again that has met a limit of ours."""


class CredentialUnreadable(UpstreamUnavailable):
    """A configured credential cannot be read: the fault is local, and no request was sent."""


class TlsFailed(UpstreamUnavailable):
    """No TLS connection was made: a certificate or a setting is wrong, and a new attempt changes nothing."""


class LocalLimit(TooManyRequests):
    """A limit of scope-proxy or of its machine kept the request from the upstream, which may be well."""


class RealmUntrusted(Denied):
    """The registry names a token server that is not trusted."""


class EndpointFailure(Exception):
    """One endpoint did not deliver what was requested."""


class NotThere(EndpointFailure):
    """The endpoint says that it has no such thing."""


class Refused(EndpointFailure):
    """The endpoint, or its token server, refuses us; or we refuse the place that it names."""

    def __init__(self, reason: str, error: type[Denied] = Denied) -> None:
        super().__init__(reason)
        self.error = error


class Unavailable(EndpointFailure):
    """The endpoint is unavailable now.

    `retry_after` is in seconds; `timeout` tells that it did not answer in time, `limited` that it had too many
    requests, `local` that the limit was ours, and `lasting` that trying again at once would change nothing. `error` is
    what nodes get where it is none of the first three.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after: float | None = None,
        timeout: bool = False,
        limited: bool = False,
        local: bool = False,
        lasting: bool = False,
        error: type[UpstreamUnavailable] = UpstreamUnavailable,
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.timeout = timeout
        self.limited = limited
        self.local = local
        self.lasting = lasting
        self.error = error


class Wrong(EndpointFailure):
    """The endpoint sent something other than what was requested."""

    def __init__(self, reason: str, error: type[UpstreamInvalid] = UpstreamInvalid) -> None:
        super().__init__(reason)
        self.error = error


@dataclass(frozen=True, slots=True)
class Failed:
    """A target and why it failed."""

    target: Target
    failure: EndpointFailure


_UNKNOWN: dict[Operation, type[RegistryError]] = {
    Operation.MANIFEST: ManifestUnknown,
    Operation.BLOB: BlobUnknown,
    Operation.TAGS: NameUnknown,
    Operation.REFERRERS: ManifestUnknown,
}


def verdict(route: Route, operation: Operation, suffix: str, failures: Sequence[Failed]) -> RegistryError:
    """The error for the node when every endpoint failed.

    An unavailable endpoint leaves open whether the image is there: that weighs most, and more where the
    limit was ours, since that endpoint may be well. Then wrong answers, then refusals; 404 only when every endpoint
    said so (containerd takes a 404 as leave to request the registry itself).
    """
    kinds: tuple[type[EndpointFailure], ...] = (Unavailable, Wrong, Refused, NotThere)
    for kind in kinds:
        found = [item for item in failures if isinstance(item.failure, kind)]
        if found:
            first = next((item for item in found if _is_local(item.failure)), found[0])
            return _error(route, operation, suffix, first)
    return UpstreamUnavailable(f"no endpoint of {route.registry} is left to try")


def _is_local(failure: EndpointFailure) -> bool:
    return isinstance(failure, Unavailable) and failure.local


def detail_of(route: Route, target: Target, suffix: str) -> dict[str, str]:
    """What an error says about the request: what was requested, where, with which scope, and what to do."""
    detail = {
        **asked_detail(route, suffix),
        "upstream": target.url(suffix),
        "scope": f"repository:{target.repository}:pull",
    }
    if route.caller.login is not None:
        detail["credential"] = (
            "the client's own, such as the imagePullSecret that matches the image's name: "
            f"it has to be valid at {target.endpoint.origin.authority}"
        )
    return detail


def asked_detail(route: Route, suffix: str) -> dict[str, str]:
    """The client's own part of it: what it requested, by the names that it used."""
    image = f"{route.registry}/{route.repository}"
    return {ASKED: f"{image} {suffix}", "hint": f"scope-proxy explain {image}"}


def _error(route: Route, operation: Operation, suffix: str, failed: Failed) -> RegistryError:
    failure, target = failed.failure, failed.target
    detail = detail_of(route, target, suffix)
    if isinstance(failure, Unavailable):
        retry_after = LOCAL_RETRY_SECONDS if failure.local else failure.retry_after
        return _kind(failure)(str(failure), detail=detail, retry_after=retry_after)
    if isinstance(failure, Wrong):
        return failure.error(str(failure), detail=detail)
    if isinstance(failure, Refused):
        return failure.error(str(failure), detail=detail)
    return _UNKNOWN[operation](str(failure), detail=detail)


def _kind(failure: Unavailable) -> type[RegistryError]:
    if failure.local:
        return LocalLimit
    if failure.limited:
        return TooManyRequests
    return UpstreamTimeout if failure.timeout else failure.error


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


_TIMED_OUT = {
    Waiting.PLACE: "{host}: all connections that it may get at once are in use (maxConnections)",
    Waiting.TOKEN: "no token for {host} came in time: its token server or a credential helper is slow",
    Waiting.ANSWER: "{host} did not answer in time",
    Waiting.BODY: "{host} did not send its whole answer in time",
}
_NOT_ASKED = "{host}: the request, or that for its token, waited too long for its turn in scope-proxy (maxConnections)"
_NOT_READ = "{host}: the request waited too long for its turn in scope-proxy, or its large answer for that to be read"


def translate(error: BaseException, target: Target, *, spent: Spent | None) -> tuple[EndpointFailure, str]:
    """What an error means for the endpoint, and its reason for the metrics; the message never holds a URL's query.

    `spent` tells where the time went when the budget was over; None while there is some left.
    """
    host = target.endpoint.origin.authority
    if (refused := refused_address(error)) is not None:
        return Refused(f"{host} redirects to a blocked address: {refused}"), "redirect_blocked"
    if isinstance(error, RedirectRefused):
        return Refused(str(error)), "redirect_blocked"
    if isinstance(error, QueueFull):
        return _local(f"{host}: {error}"), "overload"
    if spent is not None:
        return _timeout_error(spent, host)
    reason, text = connection_trouble(error)
    if is_own_limit(error):
        return _local(f"{host} {text}"), "overload"
    if reason == "tls":
        return Unavailable(f"{host} {text}", lasting=True, error=TlsFailed), reason
    return Unavailable(f"{host} {text}", timeout=reason == "timeout"), reason


def _timeout_error(spent: Spent, host: str) -> tuple[EndpointFailure, str]:
    if spent.is_local:
        own = {Waiting.PLACE: _TIMED_OUT[Waiting.PLACE], Waiting.BODY: _NOT_READ}
        return _local(own.get(spent.waits_for, _NOT_ASKED).format(host=host)), "overload"
    return Unavailable(_TIMED_OUT[spent.waits_for].format(host=host), timeout=True), "timeout"


def _local(reason: str) -> Unavailable:
    return Unavailable(reason, local=True)
