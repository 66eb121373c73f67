"""Why one endpoint did not give what was asked, and what that means when all of them have been asked."""

from collections.abc import Sequence
from dataclasses import dataclass

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

ASKED = "asked"
"""The part of an error's detail that names what the client asked for."""
LOCAL_RETRY_SECONDS = 1.0
"""After which a node may try again that has met a limit of ours."""


class CredentialUnreadable(UpstreamUnavailable):
    """A configured credential cannot be read: the trouble is here, and nobody has been asked."""


class TlsFailed(UpstreamUnavailable):
    """No TLS connection was made: a certificate or a setting is wrong, and to ask again changes nothing."""


class LocalLimit(TooManyRequests):
    """A limit of scope-proxy or of its machine kept the request from the upstream, which may be well."""


class RealmUntrusted(Denied):
    """The registry sends us to a token server that is not trusted."""


class EndpointFailure(Exception):
    """One endpoint did not give what was asked."""


class NotThere(EndpointFailure):
    """The endpoint says that it has no such thing."""


class Refused(EndpointFailure):
    """The endpoint, or its token server, refuses us; or we refuse where it sends us."""

    def __init__(self, reason: str, error: type[Denied] = Denied) -> None:
        super().__init__(reason)
        self.error = error


class Unavailable(EndpointFailure):
    """The endpoint cannot be asked now.

    `retry_after` is in seconds; `timeout` tells that it did not answer in time, `limited` that it had too many
    requests, `local` that the limit was ours, and `lasting` that asking again at once would change nothing. `error` is
    what nodes are told where it is none of the first three.
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
    """The endpoint sent something that is not what was asked for."""

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

    An endpoint that could not be asked leaves open whether the image is there: that weighs most, and more where the
    limit was ours, since that endpoint may be well. Then wrong answers, then refusals; 404 only when every endpoint
    said so (containerd takes a 404 as leave to ask the registry itself).
    """
    kinds: tuple[type[EndpointFailure], ...] = (Unavailable, Wrong, Refused, NotThere)
    for kind in kinds:
        found = [item for item in failures if isinstance(item.failure, kind)]
        if found:
            first = next((item for item in found if _is_local(item.failure)), found[0])
            return _error(route, operation, suffix, first)
    return UpstreamUnavailable(f"no endpoint of {route.registry} is left to ask")


def _is_local(failure: EndpointFailure) -> bool:
    return isinstance(failure, Unavailable) and failure.local


def detail_of(route: Route, target: Target, suffix: str) -> dict[str, str]:
    """What an error tells of the request: what was asked, of whom, with which scope, and what to do."""
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
    """The part of it that is the client's own: what it asked for, by the names that it used."""
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
