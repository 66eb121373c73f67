"""Builds every object once from the configuration, in the order in which a pull passes through them."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.auth.outward.broker import Broker
from proxy.auth.outward.credential_chain import CredentialChain, StaticSource
from proxy.auth.outward.credentials import DockerConfigSource, HelperSource
from proxy.config.cache import Cache
from proxy.config.credentials import SecretReader
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.pull.blobs.downloads import Downloads
from proxy.pull.blobs.mismatched_digests import MismatchedDigests
from proxy.pull.blobs.offline import OfflinePassThrough
from proxy.pull.blobs.passthrough import PassThrough
from proxy.pull.blobs.service import Blobs
from proxy.pull.blobs.sources import BlobSources
from proxy.pull.blobs.stored import Stored, Verified
from proxy.pull.known_manifests import KnownManifests
from proxy.pull.listing import Listings
from proxy.pull.manifests.fetch import ManifestFetcher
from proxy.pull.manifests.service import Manifests
from proxy.pull.manifests.store import ManifestStore
from proxy.pull.rights import Rights
from proxy.pull.uncached import UncachedBlobs, UncachedManifests
from proxy.routing.access import AccessRules
from proxy.routing.table import RouteTable
from proxy.runtime.tuning import TUNING, Tuning
from proxy.runtime.upkeep import watch_store
from proxy.server.handlers import BlobSource, ManifestSource, Pulls
from proxy.store.opened import OpenedStore
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import Sessions, load_tls
from proxy.transport.singleflight import Background
from proxy.upstream.authorize import Authorizer
from proxy.upstream.client import UpstreamClient
from proxy.upstream.endpoints import Endpoints
from proxy.upstream.offline import OfflineSender
from proxy.upstream.rate_limits import RateLimitReader, RateLimits
from proxy.upstream.send import PlacedSender, RequestSender


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that pull, independent of routes: they stay when a reload changes only names and rules."""

    manifests: ManifestSource
    blobs: BlobSource
    listings: Listings
    rights: Rights
    endpoints: Endpoints
    rate_limits: RateLimits
    background: Background
    """Tasks that outlive a request and end by themselves: downloads, shared flights."""


@asynccontextmanager
async def engine(
    config: Config,
    store: OpenedStore | None,
    environment: Mapping[str, str] | None = None,
    tuning: Tuning = TUNING,
) -> AsyncIterator[Engine]:
    """Build the parts that pull for a configuration, and close them at the end.

    Raises ValueError for unusable certificates and forward proxies.
    """
    environment = os.environ if environment is None else environment
    background, watchers, endpoints = Background(), Background(), Endpoints(clock=tuning.clock)
    limits = RateLimits(clock=tuning.clock)
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(_sender(config, background, environment, limits, tuning))
        stack.push_async_callback(background.close)
        stack.push_async_callback(watchers.close)
        client = UpstreamClient(sender, endpoints, tuning.pause)
        manifests, blobs = _sources(config, client, store, background, watchers, tuning=tuning, limits=limits)
        listings, rights = Listings(client, config.timeouts), Rights(client, background, config.timeouts)
        yield Engine(manifests, blobs, listings, rights, endpoints, limits, background)


@asynccontextmanager
async def _sender(
    config: Config, background: Background, environment: Mapping[str, str], limits: RateLimits, tuning: Tuning
) -> AsyncIterator[RequestSender]:
    """What sends requests to upstreams; with `cache.offline` nothing does, and no session exists."""
    if config.cache is not None and config.cache.offline:
        yield OfflineSender()
        return
    tls = await asyncio.to_thread(load_tls, config)
    proxies = ForwardProxies.from_environment(environment)
    async with Sessions(config, tls, proxies, limits=tuning.session_limits) as sessions:
        authorizer = Authorizer(
            Broker(sessions, background, tuning.clock),
            _credentials(config, background, environment),
            PlacedSender(sessions),
            clock=tuning.clock,
            fresh_grant_seconds=tuning.fresh_grant_seconds,
        )
        yield RateLimitReader(authorizer, limits)


def with_routes(built: Engine, loaded: Loaded) -> Pulls:
    """The handler of pulls: an engine with the routes and access rules of a configuration."""
    routes = RouteTable(loaded.config, loaded.positions)
    access = AccessRules(loaded.config, loaded.positions)
    return Pulls(routes, built.manifests, built.blobs, built.listings, built.rights, access)


def _sources(
    config: Config,
    client: UpstreamClient,
    store: OpenedStore | None,
    background: Background,
    watchers: Background,
    *,
    tuning: Tuning,
    limits: RateLimits,
) -> tuple[ManifestSource, BlobSource]:
    """The sources of manifests and blobs; without a store if none is configured."""
    known_manifests, verified = KnownManifests(tuning.known_manifests), Verified()
    mismatched = MismatchedDigests(store.layout.root / "suspects" if store is not None else None)
    fetcher = ManifestFetcher(client, known_manifests)
    passthrough = _passthrough(config, client, known_manifests, mismatched)
    if store is None or config.cache is None:
        return UncachedManifests(fetcher, config.timeouts), UncachedBlobs(passthrough)
    provenance, tags = store.blobs.provenance, store.tags
    downloads = _downloads(config.cache, config, client, store, verified, background=background, tuning=tuning)
    stored = Stored(store.blobs, verified, background, config.cache.verify)
    kept = ManifestStore(
        store.blobs, stored, tags, store.evictor, provenance=provenance, known_manifests=known_manifests
    )
    watchers.start(watch_store(store, kept))
    cache, timeouts = config.cache, config.timeouts
    manifests = Manifests(
        fetcher=fetcher,
        store=kept,
        tags=tags,
        background=background,
        rate_limits=limits,
        cache=cache,
        timeouts=timeouts,
    )
    sources = BlobSources(
        client=client,
        stored=stored,
        downloads=downloads,
        tags=tags,
        provenance=provenance,
        known_manifests=known_manifests,
    )
    blobs = Blobs(
        sources=sources,
        stored=stored,
        passthrough=passthrough,
        known_manifests=known_manifests,
        mismatched=mismatched,
        cache=config.cache,
        timeouts=config.timeouts,
        far_ahead=tuning.far_ahead,
    )
    return manifests, blobs


def _downloads(
    cache: Cache,
    config: Config,
    client: UpstreamClient,
    store: OpenedStore,
    verified: Verified,
    *,
    background: Background,
    tuning: Tuning,
) -> Downloads:
    return Downloads(
        client,
        store.blobs,
        verified,
        background,
        provenance=store.blobs.provenance,
        evictor=store.evictor,
        cache=cache,
        timeouts=config.timeouts,
        recheck_step=tuning.recheck_step,
    )


def _passthrough(
    config: Config, client: UpstreamClient, known_manifests: KnownManifests, mismatched: MismatchedDigests
) -> PassThrough:
    offline = config.cache is not None and config.cache.offline
    kind = OfflinePassThrough if offline else PassThrough
    return kind(client, known_manifests, mismatched, config.timeouts)


def _credentials(config: Config, background: Background, environment: Mapping[str, str]) -> CredentialChain:
    helpers = HelperSource(background)
    listed = (item for host in config.hosts.values() for item in host.credentials)
    named = [item.docker_config_file for item in listed if item.docker_config_file is not None]
    files = {path: DockerConfigSource(Path(path), helpers) for path in (*named, *config.docker_config_files)}
    static = StaticSource(config, SecretReader(environment), helpers, files)
    return CredentialChain((static, *(files[path] for path in config.docker_config_files)))
