"""Looking at a running proxy: everything that its status page tells, gathered at one moment."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proxy.auth.watched_file import FileStatus
from proxy.config.address import EndpointAddress, default_endpoint
from proxy.config.effective import render_effective
from proxy.config.loaded import Loaded
from proxy.config.model import Cache, Registry
from proxy.metrics import registry
from proxy.server.refusals import Refusal, Refusals
from proxy.server.shown import shown
from proxy.server.status import EndpointStatus, ListenerStatus, Process, Reload, Status, StoreFill, UpstreamStatus
from proxy.server.status_figures import Samples, certificates, figures, unkept
from proxy.server.status_findings import BY_LEVEL, judged, level_of
from proxy.store.blobs import StoreError
from proxy.store.index import Index, Totals
from proxy.store.ownership import exposure
from proxy.store.threads import LOOKUPS
from proxy.transport.singleflight import Background, SingleFlight
from proxy.upstream.endpoints import Endpoints
from proxy.version import VERSION

STORE_WAIT = 2.0
"""Seconds that the store's index is waited for: a disk that hangs must not hang the page."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A running proxy at one moment: the parts of it that the page is about."""

    loaded: Loaded
    endpoints: Endpoints
    index: Index | None
    """What is stored; None without a cache."""
    listeners: tuple[ListenerStatus, ...]
    ready: bool
    draining: bool
    in_flight: int
    reload: Reload | None
    workers: int = 1
    """As many as there were at the start."""
    waiting: tuple[str, ...] = ()
    tls_problems: tuple[str, ...] = ()
    client_files: tuple[FileStatus, ...] = ()


class Look:
    """Gathers the status when somebody asks for it; however many ask at one time, it is gathered once."""

    def __init__(self, snapshot: Callable[[], Snapshot], refusals: Refusals, background: Background) -> None:
        self._snapshot = snapshot
        self._refusals = refusals
        self._started_at = time.time()
        self._flights: SingleFlight[str, Status] = SingleFlight(background)
        self._effective: tuple[Loaded, str] | None = None
        self._stores: SingleFlight[int, tuple[Totals, str | None]] = SingleFlight(background)

    @property
    def loaded(self) -> Loaded:
        """The configuration in force."""
        return self._snapshot().loaded

    async def status(self) -> Status:
        """What there is to tell."""
        return await self._flights.run("status", self._gather)

    async def _gather(self) -> Status:
        seen = self._snapshot()
        cache = seen.loaded.config.cache
        store = await self._fill(seen.index, cache) if seen.index is not None and cache is not None else None
        upstreams = tuple(sorted(_upstreams(seen), key=lambda upstream: BY_LEVEL.index(upstream.level)))
        refusals = self._refusals.newest()
        return await asyncio.to_thread(self._told, seen, store, upstreams, refusals)  # metrics may stand in files

    async def _fill(self, index: Index, cache: Cache) -> StoreFill:
        trouble, totals, exposed = "", None, None

        async def look() -> tuple[Totals, str | None]:
            return await index.totals(), await LOOKUPS.in_time(partial(exposure, Path(cache.path)))

        try:
            async with asyncio.timeout(STORE_WAIT):
                totals, exposed = await self._stores.run(id(index), look)
        except StoreError as error:
            trouble = shown(str(error))
        except TimeoutError:
            trouble = f"its index did not answer within {STORE_WAIT:.0f} s"
        stored, objects = (totals.bytes, totals.objects) if totals is not None else (None, None)
        return StoreFill(cache.path, cache.max_size, stored, objects, trouble, shown(exposed or ""))

    def _told(
        self,
        seen: Snapshot,
        store: StoreFill | None,
        upstreams: tuple[UpstreamStatus, ...],
        refusals: tuple[Refusal, ...],
    ) -> Status:
        samples = Samples(registry())
        status = Status(
            at=time.time(),
            process=self._process(seen),
            upstreams=upstreams,
            refusals=refusals,
            figures=figures(samples),
            store=store,
            listeners=seen.listeners,
            certificates=certificates(samples),
            reload=seen.reload,
            warnings=tuple(str(note) for note in seen.loaded.notes if note.severity == "warning"),
            configuration=self._configuration(seen.loaded),
            waiting=seen.waiting,
            unkept=unkept(samples),
            tls_problems=tuple(shown(problem) for problem in seen.tls_problems),
            client_files=tuple(map(_client_file, seen.client_files)),
        )
        return judged(status)

    def _configuration(self, loaded: Loaded) -> str:
        """The configuration without secrets, written once: a long one takes a while."""
        if self._effective is None or self._effective[0] is not loaded:
            self._effective = loaded, render_effective(loaded)
        return self._effective[1]

    def _process(self, seen: Snapshot) -> Process:
        return Process(VERSION, os.getpid(), seen.workers, self._started_at, seen.ready, seen.draining, seen.in_flight)


def _upstreams(seen: Snapshot) -> Iterator[UpstreamStatus]:
    for name, entry in seen.loaded.config.registries.items():
        endpoints = tuple(_endpoint(address, seen.endpoints) for address in _addresses(name, entry))
        yield UpstreamStatus(name, level_of(endpoints), endpoints)


def _endpoint(address: EndpointAddress, endpoints: Endpoints) -> EndpointStatus:
    health = endpoints.health(address.origin)
    return EndpointStatus(str(address), replace(health, error=shown(health.error)))


def _client_file(file: FileStatus) -> FileStatus:
    return replace(file, trouble=shown(file.trouble), problems=tuple(map(shown, file.problems)))


def _addresses(name: str, entry: Registry) -> tuple[EndpointAddress, ...]:
    return tuple(endpoint.address for endpoint in entry.endpoints) or (default_endpoint(name),)
