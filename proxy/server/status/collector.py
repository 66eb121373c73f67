"""Collects the values of the status page at one moment."""

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
from proxy.config.cache import Cache
from proxy.config.load import Loaded, render_effective
from proxy.config.model import Registry
from proxy.observe.metrics import registry
from proxy.oci.errors import NameInvalid, RegistryError
from proxy.oci.login import ANONYMOUS_NAME
from proxy.oci.reference import ImageReference
from proxy.pull.blobs.live import CacheResult
from proxy.routing.explain import explain_image, explanation_lines
from proxy.server.refusals import Refusal, Refusals, sanitize
from proxy.server.status.findings import BY_LEVEL, level_of, with_findings
from proxy.server.status.images import CachedImages, ImageCollector
from proxy.server.status.values import (
    Certificate,
    EndpointStatus,
    Figures,
    LastWriteError,
    ListenerStatus,
    Process,
    Reload,
    ScopeFigures,
    Status,
    StoreUsage,
    TokenFigures,
    UpstreamStatus,
)
from proxy.store.blobs import StoreError
from proxy.store.disk import LOOKUPS
from proxy.store.format import exposure
from proxy.store.index import Totals
from proxy.store.opened import OpenedStore
from proxy.store.pins import PinnedContent, pin_problem
from proxy.transport.singleflight import Background, SingleFlight
from proxy.upstream.endpoints import Endpoints
from proxy.upstream.rate_limits import RateLimits, RateLimitStatus
from proxy.version import VERSION

SAVING = (CacheResult.HIT, CacheResult.JOIN, CacheResult.STALE)
"""Cache results that cause no transfer from an upstream."""
_PREFIX = "scope_proxy_"


class Samples:
    """Samples of scope-proxy's metrics at one moment; the constructor may read files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        families = (family for family in registry.collect() if family.name.startswith(_PREFIX))
        self._by_name: dict[str, list[Sample]] = {}
        for family in families:
            for sample in family.samples:
                self._by_name.setdefault(sample.name.removeprefix(_PREFIX), []).append(sample)

    def of(self, name: str) -> Iterable[Sample]:
        """The samples of a name, given without the common prefix."""
        return self._by_name.get(name, ())

    def total(self, name: str, matches: Callable[[dict[str, str]], bool] = lambda _: True) -> int:
        """The sum of the samples whose labels match."""
        return int(sum(sample.value for sample in self.of(name) if matches(sample.labels)))

    def by(self, name: str, label: str) -> dict[str, int]:
        """The sums by label value."""
        sums: dict[str, int] = {}
        for sample in self.of(name):
            value = sample.labels.get(label, "")
            sums[value] = sums.get(value, 0) + int(sample.value)
        return sums


def figures(samples: Samples) -> Figures:
    """The counters."""
    codes = samples.by("http_requests_total", "code")
    results = samples.by("cache_requests_total", "result")
    served = {result.value: results.get(result.value, 0) for result in CacheResult}
    sent = samples.by("http_response_bytes_total", "cache")
    content = {result.value: sent.get(result.value, 0) for result in CacheResult}
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
    """The certificates in use, the first to expire first."""
    gauges = samples.of("tls_certificate_not_after_timestamp_seconds")
    listed = (Certificate(sample.labels["name"], sample.value) for sample in gauges if sample.value > 0)
    return tuple(sorted(listed, key=lambda certificate: certificate.ends_at))


def last_write_error(samples: Samples) -> LastWriteError | None:
    """The last failure to store content; None if there was none."""
    gauges = samples.of("cache_last_write_error_timestamp_seconds")
    errors = (LastWriteError(sample.value, sample.labels["reason"]) for sample in gauges if sample.value > 0)
    return max(errors, key=lambda error: error.at, default=None)


def _saved(by_result: dict[str, int]) -> int:
    return sum(by_result[result.value] for result in SAVING)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _tokens(samples: Samples) -> TokenFigures:
    counts = samples.by("token_requests_total", "result")
    return TokenFigures(*(counts.get(result, 0) for result in ("cached", "fetched", "joined", "denied", "error")))


def _scopes(samples: Samples) -> ScopeFigures:
    counts = samples.by("scopes_total", "outcome")
    kept, replaced, added, dropped = (counts.get(name, 0) for name in ("kept", "replaced", "added", "dropped"))
    return ScopeFigures(kept + replaced + added, kept, replaced, added, dropped)


IMAGE_LIMIT = 600
"""Maximum characters of an image name: the longest registry, repository, tag and digest."""
CLIENT_LIMIT = 256
"""Maximum characters of a client name."""


@dataclass(frozen=True, slots=True)
class ExplainForm:
    """The input of the *Explain* form, and the result."""

    image: str = ""
    client: str = ""
    text: str = ""
    """The explanation as text."""
    error: str = ""
    """Why the image has no route."""
    data: dict[str, Any] | None = None
    """The result as JSON data."""


def explain(loaded: Loaded, image: str, client: str) -> ExplainForm:
    """The route of an image, or why it has none; blocks, because it builds a route table."""
    image_text, client_text = sanitize(image.strip(), IMAGE_LIMIT), sanitize(client.strip(), CLIENT_LIMIT)
    try:
        reference = _reference(image.strip(), client.strip())
        explanation = explain_image(loaded.config, loaded.positions, reference, client_text or ANONYMOUS_NAME)
    except RegistryError as error:
        failure = {"error": {"code": error.code, "reason": sanitize(error.reason)}}
        return ExplainForm(image_text, client_text, error=f"{error.code}: {sanitize(error.reason)}", data=failure)
    return ExplainForm(
        image_text, client_text, text="\n".join(explanation_lines(explanation)), data=explanation.as_dict()
    )


def _reference(image: str, client: str) -> ImageReference:
    """The image that was typed; raises NameInvalid and DigestInvalid."""
    if not image:
        raise NameInvalid("enter an image name, such as docker.io/library/alpine:3")
    if len(image) > IMAGE_LIMIT:
        raise NameInvalid(f"the image name is longer than {IMAGE_LIMIT} characters")
    if len(client) > CLIENT_LIMIT:
        raise NameInvalid(f"the client name is longer than {CLIENT_LIMIT} characters")
    return ImageReference.parse(image)


STORE_WAIT = 2.0
"""Timeout in seconds for the store's index: a hanging disk must not block the page."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The parts of a running proxy that the status page reports, at one moment."""

    loaded: Loaded
    endpoints: Endpoints
    store: OpenedStore | None
    """The cache; None without one."""
    listeners: tuple[ListenerStatus, ...]
    ready: bool
    draining: bool
    in_flight: int
    reload: Reload | None
    workers: int = 1
    """Number of workers at the start."""
    waiting: tuple[str, ...] = ()
    tls_problems: tuple[str, ...] = ()
    client_files: tuple[FileStatus, ...] = ()
    rate_limits: RateLimits | None = None


class StatusCollector:
    """Collects the status on request; concurrent requests share one collection."""

    def __init__(self, snapshot: Callable[[], Snapshot], refusals: Refusals, background: Background) -> None:
        self._snapshot = snapshot
        self._refusals = refusals
        self._started_at = time.time()
        self._flights: SingleFlight[str, Status] = SingleFlight(background)
        self._effective: tuple[Loaded, str] | None = None
        self._stores: SingleFlight[int, tuple[Totals, str | None]] = SingleFlight(background)
        self._pinned: SingleFlight[int, PinnedContent] = SingleFlight(background)
        self._images = ImageCollector(background)

    @property
    def loaded(self) -> Loaded:
        """The configuration in use."""
        return self._snapshot().loaded

    async def images(self, pattern: str) -> CachedImages:
        """The cached images that match a pattern, or all without one."""
        snapshot = self._snapshot()
        cache = snapshot.loaded.config.cache
        return await self._images.collect(snapshot.store, cache.keep if cache is not None else (), pattern)

    async def status(self) -> Status:
        """The current status."""
        return await self._flights.run("status", self._collect)

    async def _collect(self) -> Status:
        snapshot = self._snapshot()
        cache = snapshot.loaded.config.cache
        store = None
        if snapshot.store is not None and cache is not None:
            usage, pins = await asyncio.gather(
                self._usage(snapshot.store, cache), self._pin_problem(snapshot.store, cache)
            )
            store = replace(usage, pins=pins)
        upstreams = tuple(sorted(_upstreams(snapshot), key=lambda upstream: BY_LEVEL.index(upstream.level)))
        refusals = self._refusals.newest()
        return await asyncio.to_thread(self._assemble, snapshot, store, upstreams, refusals)  # metrics may be in files

    async def _usage(self, store: OpenedStore, cache: Cache) -> StoreUsage:
        trouble, totals, exposed = "", None, None

        async def read() -> tuple[Totals, str | None]:
            return await store.index.totals(), await LOOKUPS.in_time(partial(exposure, Path(cache.path)))

        try:
            async with asyncio.timeout(STORE_WAIT):
                totals, exposed = await self._stores.run(id(store), read)
        except StoreError as error:
            trouble = sanitize(str(error))
        except TimeoutError:
            trouble = f"the index did not respond within {STORE_WAIT:.0f} s"
        stored, objects = (totals.bytes, totals.objects) if totals is not None else (None, None)
        return StoreUsage(cache.path, cache.max_size, stored, objects, trouble, sanitize(exposed or ""))

    async def _pin_problem(self, store: OpenedStore, cache: Cache) -> str:
        """Why pinned images do not fit. Empty while many tags are still read: the scan goes on for the next status."""
        try:
            async with asyncio.timeout(STORE_WAIT):
                pinned = await self._pinned.run(id(store), store.evictor.pinned)
        except (StoreError, TimeoutError):
            return ""
        return pin_problem(pinned, cache.max_size) or ""

    def _assemble(
        self,
        snapshot: Snapshot,
        store: StoreUsage | None,
        upstreams: tuple[UpstreamStatus, ...],
        refusals: tuple[Refusal, ...],
    ) -> Status:
        samples = Samples(registry())
        status = Status(
            at=time.time(),
            process=self._process(snapshot),
            upstreams=upstreams,
            refusals=refusals,
            figures=figures(samples),
            store=store,
            listeners=snapshot.listeners,
            certificates=certificates(samples),
            reload=snapshot.reload,
            warnings=tuple(str(note) for note in snapshot.loaded.notes if note.severity == "warning"),
            configuration=self._configuration(snapshot.loaded),
            waiting=snapshot.waiting,
            unkept=last_write_error(samples),
            tls_problems=tuple(sanitize(problem) for problem in snapshot.tls_problems),
            client_files=tuple(map(_client_file, snapshot.client_files)),
            rate_limits=tuple(_rate_limits(snapshot)),
        )
        return with_findings(status)

    def _configuration(self, loaded: Loaded) -> str:
        """The configuration without secrets, cached: rendering a long one is slow."""
        if self._effective is None or self._effective[0] is not loaded:
            self._effective = loaded, render_effective(loaded)
        return self._effective[1]

    def _process(self, snapshot: Snapshot) -> Process:
        return Process(
            VERSION,
            os.getpid(),
            snapshot.workers,
            self._started_at,
            snapshot.ready,
            snapshot.draining,
            snapshot.in_flight,
        )


def _upstreams(snapshot: Snapshot) -> Iterator[UpstreamStatus]:
    for name, entry in snapshot.loaded.config.registries.items():
        endpoints = tuple(_endpoint(address, snapshot.endpoints) for address in _addresses(name, entry))
        yield UpstreamStatus(name, level_of(endpoints), endpoints)


def _endpoint(address: EndpointAddress, endpoints: Endpoints) -> EndpointStatus:
    health = endpoints.health(address.origin)
    return EndpointStatus(str(address), replace(health, error=sanitize(health.error)))


def _rate_limits(snapshot: Snapshot) -> Iterator[RateLimitStatus]:
    for known in snapshot.rate_limits.statuses() if snapshot.rate_limits is not None else ():
        if known.upstream in snapshot.loaded.config.registries:
            yield replace(known, credential=sanitize(known.credential))


def _client_file(file: FileStatus) -> FileStatus:
    return replace(file, trouble=sanitize(file.trouble), problems=tuple(map(sanitize, file.problems)))


def _addresses(name: str, entry: Registry) -> tuple[EndpointAddress, ...]:
    return tuple(endpoint.address for endpoint in entry.endpoints) or (default_endpoint(name),)
