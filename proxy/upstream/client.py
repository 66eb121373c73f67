"""Fetch one thing of one repository: authorize, fail over, try again, classify what comes back."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cachetools import LRUCache

from proxy.observe.metrics import (
    UPSTREAM_ERRORS,
    UPSTREAM_LAST_SUCCESS,
    UPSTREAM_RATE_LIMITED,
    UPSTREAM_REFUSED,
    UPSTREAM_RETRIES,
    UPSTREAM_UP,
    Bound,
)
from proxy.observe.tracing import span
from proxy.oci.errors import RangeInvalid, RegistryError
from proxy.oci.request import Operation
from proxy.routing.table import Route, Target
from proxy.transport.clock import Deadline, UpstreamTime, at_upstream, measured
from proxy.transport.redirect import Followed
from proxy.transport.retry import ROUNDS, parse_retry_after, pause_before
from proxy.transport.session import Sessions
from proxy.upstream.authorize import Authorized, Authorizer, read_error
from proxy.upstream.endpoints import Endpoints
from proxy.upstream.errors import (
    TROUBLE,
    EndpointFailure,
    Failed,
    NotThere,
    Refused,
    Spent,
    Unavailable,
    Waiting,
    Wrong,
    translate,
    verdict,
)
from proxy.upstream.send import FIRST_BYTE, Ask, Opened, Sender

REFUSED_HEAD = frozenset({400, 401, 403, 405, 501})
"""What an object store answers to a HEAD of a URL that was signed for GET, and a registry that knows no HEAD."""

NOT_MODIFIED = 304

_NO_REFERRERS = frozenset({400, 405, 406, 501})
_PASSING = frozenset({408, 425})
"""4xx that say nothing of us or of what we asked for: request timeout, too early."""
CLIENTS_LIMIT = 4096
"""Most clients with credentials of their own of which is known how endpoints serve them."""
_REST_SLACK = 0.02
_LONGEST_NUMBER = 20
_UP, _LAST_SUCCESS = Bound(UPSTREAM_UP), Bound(UPSTREAM_LAST_SUCCESS)
_logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class UpstreamClient:
    """Asks the endpoints of a route until one gives what is wanted."""

    def __init__(self, sessions: Sessions, authorizer: Authorizer, endpoints: Endpoints) -> None:
        self._sessions = sessions
        self._authorizer = authorizer
        self._endpoints = endpoints
        self._client_endpoints: LRUCache[str, Endpoints] = LRUCache(CLIENTS_LIMIT)

    async def fetch(
        self,
        route: Route,
        ask: Ask,
        deadline: Deadline,
        consume: Callable[[Opened], Awaitable[Result]],
        *,
        patience: float | None = None,
    ) -> Result:
        """What `consume` makes of the first good answer; it may raise an EndpointFailure to have the next one asked.

        When `consume` returns, the answer is its own to close. The endpoints share the time that is left, or where
        that is long the `patience` (seconds), so that one which hangs does not use up all; the last one has the rest,
        and is sent the request once more when it has not answered for as long: its answer may be lost.
        Patience also bounds how long an endpoint that asks for it is left alone before it is asked again: who waits
        learns of it. Raises RegistryError for the node.
        """
        settled: list[Failed] = []
        waiting = deadline if patience is None else Deadline.after(min(deadline.remaining, patience))
        pending = self._endpoints.order(route.targets)
        for round_number in range(1, ROUNDS + 1):
            failed: list[Failed] = []
            for position, target in enumerate(pending):
                if position > 0 or round_number > 1:
                    UPSTREAM_RETRIES.labels(route.upstream).inc()
                share = _share(deadline, len(pending) - position, patience)
                sender = Sender(self._sessions, route, target, ask, patience)
                try:
                    return await self._try(route, sender, share, consume)
                except EndpointFailure as failure:
                    _logger.info("%s %s: %s", ask.method, target.url(ask.suffix), failure)
                    failed.append(Failed(target, failure))
            settled += [item for item in failed if not isinstance(item.failure, Unavailable)]
            unavailable = [item for item in failed if isinstance(item.failure, Unavailable)]
            pause = _pause(unavailable, round_number)
            if round_number == ROUNDS or pause is None or pause >= waiting.remaining:
                raise verdict(route, ask.operation, ask.suffix, [*unavailable, *settled])
            await asyncio.sleep(pause + _REST_SLACK)
            pending = [item.target for item in unavailable]
        raise AssertionError("the last round either returns or raises")

    async def _try(
        self, route: Route, sender: Sender, share: Deadline, consume: Callable[[Opened], Awaitable[Result]]
    ) -> Result:
        """Ask one endpoint within its share of the time; raises EndpointFailure or RegistryError."""
        target, host = sender.target, sender.target.endpoint.origin.authority
        rest = max(self._endpoints.rest(target), self._book(route).rest(target))
        if rest > 0:
            reason = f"{host} asked to be left alone for {rest:.0f} s"
            raise Unavailable(reason, retry_after=rest, limited=True)
        seconds = share.remaining
        scope = asyncio.timeout(seconds)
        with measured() as time:
            try:
                with span("upstream", upstream=route.upstream, host=host, op=sender.ask.operation):
                    async with scope:
                        result = await self._ask(route, sender, consume)
            except TROUBLE as error:
                spent = _spent(sender, time, seconds) if scope.expired() else None
                failure, reason = translate(error, target, spent=spent)
                UPSTREAM_ERRORS.labels(route.upstream, reason).inc()
                if reason != "overload":  # that is our own limit, no fault of the endpoint
                    self._note_failure(route, target, failure)
                raise failure from error
            except NotThere:
                self._endpoints.succeeded(target)
                _note_answer(route)
                raise
            except EndpointFailure as failure:
                self._note_answer(route, target, failure)
                raise
        self._endpoints.succeeded(target)
        self._book(route).succeeded(target)
        _note_answer(route)
        return result

    async def _ask(self, route: Route, sender: Sender, consume: Callable[[Opened], Awaitable[Result]]) -> Result:
        opened = await self._open(route, sender)
        sender.waits_for = Waiting.BODY
        try:
            with at_upstream():
                return await consume(opened)
        except BaseException:
            opened.close()
            raise

    async def _open(self, route: Route, sender: Sender) -> Opened:
        """One request; where its HEAD is refused, a GET takes its place."""
        target, ask = sender.target, sender.ask
        try:
            answer = await self._authorized(route, sender)
            if _is_refused_head(ask, answer.followed):
                answer.followed.response.close()
                sender.ask = _as_get(ask)
                answer = await self._authorized(route, sender)
            await _classify(route, target, sender.ask, answer.followed)
        except BaseException:
            sender.release()
            raise
        response = answer.followed.response
        return Opened(response, target, route.upstream, sender.release, sender.reclaim, answer.good_until)

    async def _authorized(self, route: Route, sender: Sender) -> Authorized:
        try:
            return await self._authorizer.send(sender.target, route, sender, sender.ask.suffix)
        except Refused:
            if route.caller.login is None:  # a client's own credential is nothing that the operator could mend
                UPSTREAM_REFUSED.labels(route.upstream).inc()
            raise

    def _book(self, route: Route) -> Endpoints:
        """What is known of endpoints as this client is served: its limits, and its account's trouble, are its own."""
        if route.caller.login is None:
            return self._endpoints
        book: Endpoints | None = self._client_endpoints.get(route.caller.identity)
        if book is None:
            book = self._client_endpoints[route.caller.identity] = Endpoints(logs=False)
        return book

    def _note_answer(self, route: Route, target: Target, failure: EndpointFailure) -> None:
        """An endpoint, or its token server, has answered otherwise than it should, or was not asked."""
        if isinstance(failure, Unavailable) and failure.local:
            return
        if route.caller.login is None:
            self._note_failure(route, target, failure)
        elif isinstance(failure, Unavailable):
            self._book(route).failed(target, str(failure), failure.retry_after)

    def _note_failure(self, route: Route, target: Target, failure: EndpointFailure) -> None:
        if not isinstance(failure, Unavailable):
            self._endpoints.refused(target, str(failure))
            return
        self._endpoints.failed(target, str(failure), failure.retry_after)
        if self._endpoints.are_down(route.upstream, route.targets):
            _UP[route.upstream,].set(0)


def _note_answer(route: Route) -> None:
    """The upstream has answered as it should."""
    _UP[route.upstream,].set(1)
    _LAST_SUCCESS[route.upstream,].set(time.time())


def _spent(sender: Sender, time: UpstreamTime, seconds: float) -> Spent:
    """Where the time of a request went that has none left."""
    return Spent(sender.waits_for, sender.waits_for is Waiting.PLACE or time.is_short_of(seconds))


def _share(deadline: Deadline, left: int, patience: float | None) -> Deadline:
    """What of the time the next of so many endpoints gets."""
    if left == 1:
        return deadline
    waiting = deadline.remaining if patience is None else min(deadline.remaining, patience)
    return Deadline.after(waiting / left)


def _as_get(ask: Ask) -> Ask:
    first_byte = FIRST_BYTE if ask.operation is Operation.BLOB else None
    return Ask(ask.operation, ask.suffix, "GET", ask.accept, first_byte, ask.query)


def _is_refused_head(ask: Ask, answer: Followed) -> bool:
    status = answer.response.status
    return ask.method == "HEAD" and (status in (405, 501) or (answer.elsewhere and status in REFUSED_HEAD))


def _pause(unavailable: list[Failed], round_number: int) -> float | None:
    """Seconds until it is worth asking again; None where nothing would change."""
    pauses = [
        pause_before(round_number) if item.failure.retry_after is None else item.failure.retry_after
        for item in unavailable
        if isinstance(item.failure, Unavailable) and not (item.failure.timeout or item.failure.lasting)
    ]
    return min(pauses, default=None)


async def _classify(route: Route, target: Target, ask: Ask, answer: Followed) -> None:
    """Let a good answer pass and turn any other into what it means."""
    response, host = answer.response, target.endpoint.origin.authority
    status = response.status
    if status == NOT_MODIFIED and ask.etag is not None:
        return
    if status == 200 or (status == 206 and ask.range is not None):  # noqa: PLR2004
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            response.close()
            raise Wrong(f"{host} sent {ask.suffix} in Content-Encoding {encoding[:20]}, which was not asked for")
        return
    await read_error(response)
    raise _meaning(route, target, ask, answer)


def _meaning(route: Route, target: Target, ask: Ask, answer: Followed) -> EndpointFailure | RegistryError:
    host = target.endpoint.origin.authority
    response, status = answer.response, answer.response.status
    # An object store speaks for itself: the registry is not to be left alone because of it.
    retry_after = None if answer.elsewhere else parse_retry_after(response.headers.get("Retry-After"))
    what = f"{host} answered {status}" if not answer.elsewhere else f"the object store of {host} answered {status}"
    match status:
        case 404 | 410:
            return NotThere(f"{host} does not have {target.repository} {ask.suffix}")
        case 416 if ask.range is not None:
            size = response.headers.get("Content-Range", "").rpartition("/")[2]
            is_known = size.isdecimal() and len(size) < _LONGEST_NUMBER
            return RangeInvalid("the range lies outside the blob", size=int(size) if is_known else None)
        case 429:
            UPSTREAM_RATE_LIMITED.labels(route.upstream).inc()
            return Unavailable(f"{host} answered 429: too many requests", retry_after=retry_after, limited=True)
        case _ if ask.operation is Operation.REFERRERS and status in _NO_REFERRERS:
            return NotThere(f"{host} does not list referrers")
        case _ if 400 <= status < 500 and status not in _PASSING and not answer.elsewhere:  # noqa: PLR2004
            return Refused(what)
        case _:
            return Unavailable(what, retry_after=retry_after)
