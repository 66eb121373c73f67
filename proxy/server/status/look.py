"""Looking at a running proxy: everything that its status page tells, gathered at one moment."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from proxy.auth.inward.watched_file import FileStatus
from proxy.config.address import EndpointAddress, default_endpoint
from proxy.config.load import Loaded, render_effective
from proxy.config.model import Cache, Registry
from proxy.observe.metrics import registry
from proxy.oci.errors import NameInvalid, RegistryError
from proxy.oci.login import ANONYMOUS_NAME
from proxy.oci.reference import ImageReference
from proxy.pull.blobs.live import CacheResult
from proxy.routing.explain import explain_image, explanation_lines
from proxy.server.refusals import Refusal, Refusals, shown
from proxy.server.status.findings import BY_LEVEL, judged, level_of
from proxy.server.status.values import (
    Certificate,
    EndpointStatus,
    Figures,
    ListenerStatus,
    Process,
    Reload,
    ScopeFigures,
    Status,
    StoreFill,
    TokenFigures,
    Unkept,
    UpstreamStatus,
)
from proxy.store.blobs import StoreError
from proxy.store.disk import LOOKUPS
from proxy.store.format import exposure
from proxy.store.index import Index, Totals
from proxy.transport.singleflight import Background, SingleFlight
from proxy.upstream.endpoints import Endpoints
from proxy.version import VERSION

SAVING = (CacheResult.HIT, CacheResult.JOIN, CacheResult.STALE)
"""Ways of serving for which no upstream sends anything anew."""
_PREFIX = "scope_proxy_"


class Samples:
    """The values of our metrics at one moment; collecting them may read files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        families = (family for family in registry.collect() if family.name.startswith(_PREFIX))
        self._by_name: dict[str, list[Sample]] = {}
        for family in families:
            for sample in family.samples:
                self._by_name.setdefault(sample.name.removeprefix(_PREFIX), []).append(sample)

    def of(self, name: str) -> Iterable[Sample]:
        """The samples of a name, without the prefix that all have."""
        return self._by_name.get(name, ())

    def total(self, name: str, fits: Callable[[dict[str, str]], bool] = lambda _: True) -> int:
        """The sum of those whose labels fit."""
        return int(sum(sample.value for sample in self.of(name) if fits(sample.labels)))

    def by(self, name: str, label: str) -> dict[str, int]:
        """The sums by the values of a label."""
        sums: dict[str, int] = {}
        for sample in self.of(name):
            value = sample.labels.get(label, "")
            sums[value] = sums.get(value, 0) + int(sample.value)
        return sums


def figures(samples: Samples) -> Figures:
    """What was counted."""
    codes = samples.by("http_requests_total", "code")
    ways = samples.by("cache_requests_total", "result")
    served = {way.value: ways.get(way.value, 0) for way in CacheResult}
    sent = samples.by("http_response_bytes_total", "cache")
    content = {way.value: sent.get(way.value, 0) for way in CacheResult}
    return Figures(
        requests=sum(codes.values()),
        refused=sum(count for code, count in codes.items() if code.startswith("4")),
        failed=sum(count for code, count in codes.items() if code.startswith("5")),
        served=served,
        bytes_sent=sum(sent.values()),
        request_ratio=_ratio(_saved(served), sum(served.values())),
        byte_ratio=_ratio(_saved(content), sum(content.values())),
        saved_requests=_saved(served),
        saved_bytes=_saved(content),
        tokens=_tokens(samples),
        scopes=_scopes(samples),
        write_errors=samples.total("cache_write_errors_total"),
    )


def certificates(samples: Samples) -> tuple[Certificate, ...]:
    """The certificates that are shown, the one that ends first before the others."""
    found = samples.of("tls_certificate_not_after_timestamp_seconds")
    ends = (Certificate(sample.labels["name"], sample.value) for sample in found if sample.value > 0)
    return tuple(sorted(ends, key=lambda certificate: certificate.ends_at))


def unkept(samples: Samples) -> Unkept | None:
    """The last time that content could not be stored; None without one."""
    found = samples.of("cache_last_write_error_timestamp_seconds")
    times = (Unkept(sample.value, sample.labels["reason"]) for sample in found if sample.value > 0)
    return max(times, key=lambda one: one.at, default=None)


def _saved(by_way: dict[str, int]) -> int:
    return sum(by_way[way.value] for way in SAVING)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _tokens(samples: Samples) -> TokenFigures:
    found = samples.by("token_requests_total", "result")
    return TokenFigures(*(found.get(result, 0) for result in ("cached", "fetched", "joined", "denied", "error")))


def _scopes(samples: Samples) -> ScopeFigures:
    found = samples.by("scopes_total", "outcome")
    kept, replaced, added, dropped = (found.get(name, 0) for name in ("kept", "replaced", "added", "dropped"))
    return ScopeFigures(kept + replaced + added, kept, replaced, added, dropped)


IMAGE_LIMIT = 600
"""Characters of an image's name: registry, repository, tag and digest at their longest."""
CLIENT_LIMIT = 256
"""Characters of a client's name."""


@dataclass(frozen=True, slots=True)
class Box:
    """What was typed, and what came of it."""

    image: str = ""
    client: str = ""
    text: str = ""
    """The explanation in lines."""
    error: str = ""
    """Why there is none."""
    data: dict[str, Any] | None = None
    """The same for scripts."""


def explained(loaded: Loaded, image: str, client: str) -> Box:
    """The route of an image, or why it has none; makes a route table, so it is not for the event loop."""
    typed, who = shown(image.strip(), IMAGE_LIMIT), shown(client.strip(), CLIENT_LIMIT)
    try:
        reference = _reference(image.strip(), client.strip())
        found = explain_image(loaded.config, loaded.positions, reference, who or ANONYMOUS_NAME)
    except RegistryError as error:
        failure = {"error": {"code": error.code, "reason": shown(error.reason)}}
        return Box(typed, who, error=f"{error.code}: {shown(error.reason)}", data=failure)
    return Box(typed, who, text="\n".join(explanation_lines(found)), data=found.as_dict())


def _reference(image: str, client: str) -> ImageReference:
    """What was typed, as an image; raises NameInvalid and DigestInvalid."""
    if not image:
        raise NameInvalid("type the name of an image, such as docker.io/library/alpine:3")
    if len(image) > IMAGE_LIMIT:
        raise NameInvalid(f"the image's name is longer than {IMAGE_LIMIT} characters")
    if len(client) > CLIENT_LIMIT:
        raise NameInvalid(f"the client's name is longer than {CLIENT_LIMIT} characters")
    return ImageReference.parse(image)


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
