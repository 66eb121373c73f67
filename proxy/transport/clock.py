"""Time budgets: one deadline per request, and how much of it the upstream has used."""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Protocol, Self

import aiohttp


class DeadlineExceeded(Exception):
    """The budget of the request is spent."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left; 0 when there are none."""
        return max(self.at - time.monotonic(), 0.0)

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Bound what runs inside; raises DeadlineExceeded, and leaves other time-outs inside as they are."""
        scope = asyncio.timeout(self.remaining)
        try:
            async with scope:
                yield
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded from None
            raise


STEP_SECONDS = 0.1
"""How much may be counted at once: an event loop that is late has not let the upstream's answer in either."""

OWN_SHARE, OWN_SECONDS = 0.1, 0.25
"""Of a budget that is over, limits of our own may have taken this share, or so many seconds of a short one: with more
the upstream is not to blame."""


class UpstreamSilent(Exception):
    """The upstream has had the time that it may take."""


class _Watcher(Protocol):
    def begin(self) -> None:
        """The upstream is waited for from now on."""

    def end(self) -> None:
        """It is not any more."""


class UpstreamTime:
    """Counts while at least one request is with the upstream."""

    __slots__ = ("_requests", "_since", "_spent", "_watchers")

    def __init__(self) -> None:
        self._requests = 0
        self._since = 0.0
        self._spent = 0.0
        self._watchers: list[_Watcher] = []

    @property
    def seconds(self) -> float:
        """How long it has been, up to now."""
        running = asyncio.get_running_loop().time() - self._since if self._requests else 0.0
        return self._spent + running

    def is_short_of(self, budget: float) -> bool:
        """Whether the upstream has had so much less than a budget that limits of our own are to blame."""
        return budget - self.seconds > max(budget * OWN_SHARE, OWN_SECONDS)

    def begin(self) -> None:
        """A request is with the upstream; each begin has its end."""
        self._requests += 1
        if self._requests == 1:
            self._since = asyncio.get_running_loop().time()
            for watcher in self._watchers:
                watcher.begin()

    def end(self) -> None:
        """A request is back."""
        self._requests -= 1
        if not self._requests:
            self._spent += asyncio.get_running_loop().time() - self._since
            for watcher in self._watchers:
                watcher.end()

    @contextmanager
    def watched_by(self, watcher: _Watcher) -> Iterator[None]:
        """Let another one know, in the block."""
        self._watchers.append(watcher)
        if self._requests:
            watcher.begin()
        try:
            yield
        finally:
            self._watchers.remove(watcher)
            if self._requests:
                watcher.end()


class _Limit:
    """Ends a time-out scope when the upstream has had so many seconds."""

    def __init__(self, seconds: float, scope: asyncio.Timeout) -> None:
        self._left = seconds
        self._scope = scope
        self._step = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0

    def begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._step = min(self._left, STEP_SECONDS)
        self._timer = loop.call_later(self._step, self._count)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left -= min(asyncio.get_running_loop().time() - self._began, self._step)

    def _count(self) -> None:
        self._left -= self._step
        if self._left > 0:
            self.begin()
        else:
            self._timer = None
            self._scope.reschedule(asyncio.get_running_loop().time())


_CURRENT: contextvars.ContextVar[UpstreamTime | None] = contextvars.ContextVar("upstream_time", default=None)


@contextmanager
def at_upstream() -> Iterator[None]:
    """What runs in the block waits for the upstream, or for something else outside of this process."""
    time = _CURRENT.get()
    if time is None:
        yield
        return
    time.begin()
    try:
        yield
    finally:
        time.end()


class Attempt:
    """One request on its way out: it is with the upstream from when a connection is made or used for it."""

    def __init__(self) -> None:
        self._time = _CURRENT.get()
        self._is_out = False

    def begin(self) -> None:
        """A connection is made or used; a second one, where the first was closed, changes nothing."""
        if self._time is not None and not self._is_out:
            self._is_out = True
            self._time.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._time is not None and self._is_out:
            self._time.end()


def connection_traces() -> aiohttp.TraceConfig:
    """Has the time of each `Attempt` count from when a connection is made or used, not while it waits for one."""

    async def begin(_session: aiohttp.ClientSession, context: SimpleNamespace, _details: object) -> None:
        context.trace_request_ctx.begin()

    traced = aiohttp.TraceConfig()
    traced.on_connection_create_start.append(begin)
    traced.on_connection_reuseconn.append(begin)
    return traced


@contextmanager
def measured() -> Iterator[UpstreamTime]:
    """The time of what runs in the block; who measures around it sees it too."""
    time, outer = UpstreamTime(), _CURRENT.get()
    token = _CURRENT.set(time)
    try:
        if outer is None:
            yield time
        else:
            with time.watched_by(outer):
                yield time
    finally:
        _CURRENT.reset(token)


@asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[None]:
    """Bound the time of the upstream in the block; raises UpstreamSilent. All other time is for others to bound."""
    with measured() as time:
        scope = asyncio.timeout(None)
        try:
            async with scope:
                with time.watched_by(_Limit(seconds, scope)):
                    yield
        except TimeoutError:
            if scope.expired():
                raise UpstreamSilent from None
            raise


def context_of(time: UpstreamTime) -> contextvars.Context:
    """A context, as it is here, in which this is the time that counts."""
    context = contextvars.copy_context()
    context.run(_CURRENT.set, time)
    return context


@contextmanager
def joined(time: UpstreamTime) -> Iterator[None]:
    """Wait in the block for work whose time this is."""
    outer = _CURRENT.get()
    if outer is None:
        yield
        return
    with time.watched_by(outer):
        yield
