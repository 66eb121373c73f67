"""The rights of clients that pull with credentials of their own: a hit obeys them as a miss does."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachetools import LRUCache

from proxy.config.model import Timeouts
from proxy.observe.metrics import PROOFS, Bound
from proxy.oci.descriptor import ACCEPT, MANIFEST_LIMIT, MANIFEST_TYPES, media_type_of
from proxy.oci.errors import (
    DigestInvalid,
    RegistryError,
    TooManyRequests,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.oci.reference import Digest
from proxy.oci.request import Operation, RegistryRequest
from proxy.pull.known_manifests import parse
from proxy.routing.table import Route, Target
from proxy.transport.clock import Deadline, DeadlineExceeded, UpstreamSilent, limited
from proxy.transport.singleflight import Background, SingleFlight
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import LOCAL_RETRY_SECONDS, LocalLimit, Wrong, detail_of
from proxy.upstream.send import UpstreamRequest, UpstreamResponse

_PAGE = "text/html"


def proof_of(request: RegistryRequest) -> UpstreamRequest:
    """A HEAD of what the client requests: its response shows whether the client has the right."""
    if request.operation is Operation.MANIFEST:
        return UpstreamRequest(Operation.MANIFEST, f"manifests/{request.reference}", "HEAD", ACCEPT)
    return UpstreamRequest(Operation.BLOB, f"blobs/{request.digest}", "HEAD", "*/*")


async def prove(
    client: UpstreamClient, route: Route, wanted: UpstreamRequest, deadline: Deadline, patience: float
) -> tuple[Target, float]:
    """The endpoint that says yes, and until when what it was requested with is valid; raises RegistryError."""
    for request in (wanted, UpstreamRequest(wanted.operation, wanted.suffix, "GET", wanted.accept)):
        responses = client.responses(route, request, deadline, patience=patience)
        while True:
            async with await responses.next() as response:
                try:
                    is_proof = await _is_proof(response, request)
                finally:
                    response.close()
                break
        if is_proof:
            return response.target, response.expires_at
        # Else a HEAD leaves out what distinguishes a manifest from a page.
    raise UpstreamInvalid(f"no endpoint of {route.registry} answers for {wanted.suffix} as a registry does")


async def _is_proof(response: UpstreamResponse, wanted: UpstreamRequest) -> bool:
    """Whether the response is about the request; False for a HEAD that leaves it open. Raises Wrong."""
    host = response.target.endpoint.origin.authority
    told_type = media_type_of(response.headers.get("Content-Type"))
    reported = _digest(response.headers.get("Docker-Content-Digest", ""))
    if reported is not None and reported != (_digest(wanted.suffix.rpartition("/")[2]) or reported):
        raise Wrong(f"{host} reports another digest than the requested one")
    if _has_strayed(response):
        raise Wrong(f"{host} redirects a request for content of a repository to a page of its own")
    if wanted.operation is Operation.BLOB:
        if told_type == _PAGE:
            raise Wrong(f"{host} answers a request for a blob with a page")
        return True
    if told_type in MANIFEST_TYPES:
        return True
    if response.method == "HEAD":
        return False
    try:
        async with response.whole(MANIFEST_LIMIT, "manifest") as content:
            parsed = await parse(content)
        parsed.media_type(response.headers.get("Content-Type"))
    except UpstreamInvalid as error:
        raise Wrong(f"{host}: {error.reason}") from None
    return True


def _has_strayed(response: UpstreamResponse) -> bool:
    """Whether the endpoint has sent us to another place on itself than its registry."""
    endpoint, url = response.target.endpoint, response.url
    same = (url.scheme, url.host, url.port) == (endpoint.origin.scheme, endpoint.origin.host, endpoint.origin.port)
    return same and not url.path.startswith(f"{endpoint.root}/")


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None


PROOFS_LIMIT = 50_000
"""Most (identity, endpoint, repository) whose proof is kept."""
SHARE = 0.5
"""Share of a request's time that the upstream may take for a proof. What waits for limits of ours waits longer, up to
all of that time, and never counts as an unavailable upstream."""
FETCH_SECONDS = 60.0
"""How long the upstream may take for a proof, after its client got 503 with Retry-After."""

_CONTENT = frozenset({Operation.MANIFEST, Operation.BLOB})
_PROOFS = Bound(PROOFS)
_logger = logging.getLogger(__name__)

_Key = tuple[str, str]
"""An identity, and the repository as its endpoint has it."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """When the upstream last said yes, and until when that holds; on the monotonic clock."""

    given: float
    until: float


class Rights:
    """Proves them, and remembers proofs."""

    def __init__(self, client: UpstreamClient, background: Background, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts
        self._proofs: LRUCache[_Key, _Proof] = LRUCache(PROOFS_LIMIT)
        self._flights: SingleFlight[tuple[str, Sequence[Target], str], Target] = SingleFlight(background)

    async def admit(self, route: Route, request: RegistryRequest) -> Route:
        """The route by the endpoint where the client has a right to the repository; raises RegistryError.

        Lists are never kept: the upstream judges each request for one.
        """
        if route.caller.login is None or request.operation not in _CONTENT:
            return route
        for target in route.targets:
            if self._is_proven(route, target):
                _PROOFS["known",].inc()
                return replace(route, targets=(target,))
        return await self._prove(route, request)

    def _is_proven(self, route: Route, target: Target) -> bool:
        """Whether a proof holds, as long as the listener by which this request came lets one hold."""
        proof = self._proofs.get(_key(route, target))
        return proof is not None and time.monotonic() < min(proof.until, proof.given + route.caller.proofs.age)

    def doubt(self, route: Route) -> None:
        """An endpoint was unavailable: the next request finds out whether another one serves the client."""
        for target in route.targets if route.caller.login is not None else ():
            proof = self._proofs.get(_key(route, target))
            if proof is not None:
                self._proofs[_key(route, target)] = replace(proof, until=proof.given)

    def revoke(self, route: Route) -> None:
        """The upstream has refused: what it allowed before counts no more, not even while it is unavailable."""
        for target in route.targets if route.caller.login is not None else ():
            self._proofs.pop(_key(route, target), None)

    async def _prove(self, route: Route, request: RegistryRequest) -> Route:
        wanted = proof_of(request)
        flight = (route.caller.identity, route.targets, wanted.suffix)
        budget = self._budget(wanted)
        try:
            async with Deadline.after(budget).enforced(), limited(budget * SHARE):
                target = await self._flights.run(flight, lambda: self._proof(route, wanted))
        except UpstreamSilent:
            return self._last(route, _timeout_error(route, wanted))
        except DeadlineExceeded:
            _PROOFS["overload",].inc()
            raise _not_asked(route, wanted) from None
        except LocalLimit:
            _PROOFS["overload",].inc()
            raise
        except (UpstreamUnavailable, TooManyRequests) as error:
            return self._last(route, error)
        except RegistryError:
            _PROOFS["refused",].inc()
            raise
        _PROOFS["given",].inc()
        return replace(route, targets=(target,))

    def _budget(self, wanted: UpstreamRequest) -> float:
        return self._timeouts.manifest if wanted.operation is Operation.MANIFEST else self._timeouts.blob

    async def _proof(self, route: Route, wanted: UpstreamRequest) -> Target:
        """Ask the upstream as the client; raises RegistryError.

        A refusal counts also when its client has not waited for it.
        """
        asked_at = time.monotonic()
        deadline = Deadline.after(FETCH_SECONDS)
        try:
            target, good_until = await prove(self._client, route, wanted, deadline, self._budget(wanted))
        except (UpstreamUnavailable, TooManyRequests):
            raise
        except RegistryError:
            self.revoke(route)
            raise
        until = min(asked_at + route.caller.proofs.age, good_until)
        self._proofs[_key(route, target)] = _Proof(asked_at, until)
        return target

    def _last(self, route: Route, error: RegistryError) -> Route:
        """The route by what was last proven, where the configuration lets it count; else raises the error."""
        oldest = time.monotonic() - route.caller.proofs.last_age
        for target in route.targets if route.caller.proofs.last_age else ():
            proof = self._proofs.get(_key(route, target))
            if proof is not None and proof.given >= oldest:
                _PROOFS["last",].inc()
                _logger.warning("the last proof of %s counts: %s", route.caller.name, error.reason)
                return replace(route, targets=(target,))
        _PROOFS["unreachable",].inc()
        raise error


def _timeout_error(route: Route, wanted: UpstreamRequest) -> UpstreamTimeout:
    return UpstreamTimeout(
        f"the upstream has not said in time whether {route.caller.name} may pull {route.repository}",
        detail=detail_of(route, route.targets[0], wanted.suffix),
        retry_after=1,
    )


def _not_asked(route: Route, wanted: UpstreamRequest) -> LocalLimit:
    return LocalLimit(
        f"whether {route.caller.name} may pull {route.repository} was not decided in time: "
        "too many requests wait in scope-proxy",
        detail=detail_of(route, route.targets[0], wanted.suffix),
        retry_after=LOCAL_RETRY_SECONDS,
    )


def _key(route: Route, target: Target) -> _Key:
    return route.caller.identity, target.key
