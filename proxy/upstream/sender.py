"""One request to one endpoint, in its turn: sent again as often as its authorization changes, or no answer comes."""

import logging

from yarl import URL

from proxy.log import REQUEST_ID
from proxy.metrics import UPSTREAM_RETRIES
from proxy.oci.request import NAMESPACE
from proxy.routing.table import Route, Target
from proxy.tracing import outgoing_context
from proxy.transport.hedge import hedged
from proxy.transport.limits import CountedGate, HostPlace
from proxy.transport.loop import via
from proxy.transport.redirect import Followed, follow
from proxy.transport.session import Outgoing, Sessions
from proxy.upstream.ask import Ask
from proxy.upstream.trouble import Waiting

_logger = logging.getLogger(__name__)


class Sender:
    """Sends one request, again as often as its authorization changes, and holds its place at the host's gate."""

    def __init__(
        self, sessions: Sessions, route: Route, target: Target, ask: Ask, patience: float | None = None
    ) -> None:
        self.ask = ask
        self.target = target
        self.waits_for = Waiting.TOKEN
        self._sessions = sessions
        self._route = route
        self._patience = patience
        self._gate = CountedGate(sessions.gate(target.endpoint.origin), route.upstream)
        self._place: HostPlace | None = None

    async def __call__(self, authorization: str | None) -> Followed:
        """The answer at the end of the redirects; raises what `follow` raises, and QueueFull."""
        self.release()
        self.waits_for = Waiting.PLACE
        self._place = await self._gate.acquire(self.ask.size)
        self.waits_for = Waiting.ANSWER
        try:
            answer = await self._answer(self._outgoing(authorization))
        except BaseException:
            self.release()
            raise
        if answer.response.status in (400, 401, 403):
            # A token may be needed now, and its request wants a place of its own: holding two could block for good.
            self.release()
            self.waits_for = Waiting.TOKEN
        return answer

    def release(self) -> None:
        """Give the place back, if it is held."""
        if self._place is not None:
            place, self._place = self._place, None
            self._gate.release(place)

    def reclaim(self) -> bool:
        """Whether the place must be released now, as others wait for it."""
        return self._place is not None and self._place.reclaim()

    async def _answer(self, outgoing: Outgoing) -> Followed:
        """The answer to the request, or where that takes longer than the patience, to a second one."""
        if self._patience is None:
            return await follow(self._sessions, outgoing)
        return await hedged(
            lambda: follow(self._sessions, outgoing),
            lambda: self._once_more(outgoing),
            self._patience,
            discard=lambda late: late.response.close(),
        )

    async def _once_more(self, outgoing: Outgoing) -> Followed:
        """Send the request a second time; the answer stays open, at the place of the first one."""
        async with self._gate.admitted(self.ask.size):
            host = self.target.endpoint.origin.authority
            _logger.info("%s has not answered for %g s: it is asked once more", host, self._patience)
            UPSTREAM_RETRIES.labels(self._route.upstream).inc()
            return await follow(self._sessions, outgoing)

    def _outgoing(self, authorization: str | None) -> Outgoing:
        ask, target = self.ask, self.target
        query = (*ask.query, *(((NAMESPACE, target.namespace),) if target.namespace else ()))
        headers = {"X-Request-Id": REQUEST_ID.get(), "Via": via(), **outgoing_context()}
        if ask.accept is not None:
            headers["Accept"] = ask.accept
        if ask.range is not None:
            headers["Range"] = str(ask.range)
        if ask.etag is not None:
            headers["If-None-Match"] = ask.etag
        if authorization is not None:
            headers["Authorization"] = authorization
        url = URL(target.url(ask.suffix), encoded=True).with_query(list(query))
        label = (self._route.upstream, ask.operation.value)
        return Outgoing(ask.method, url, target.endpoint.origin, headers, label)
