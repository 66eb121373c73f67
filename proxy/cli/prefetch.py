"""`scope-proxy cache prefetch`: fetches whole images into the cache in advance."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
from rich.progress import Progress

from proxy.cli.cache import EXIT_FAILED
from proxy.cli.options import cache_or_exit, configuration_options, source_of, threads_or_exit
from proxy.cli.progress import bars, finish, print_line
from proxy.cli.running_proxies import RunningProxies, listener_options, proxies_of
from proxy.config.base import readable_size
from proxy.config.cache import Cache
from proxy.config.load import Loaded
from proxy.oci.errors import RegistryError
from proxy.oci.reference import ImageReference
from proxy.prefetch.images import Prefetcher, Progressed
from proxy.prefetch.instances import NotReady, ready_listeners
from proxy.prefetch.listener import ListenerClient, PrefetchFailed, listener_session
from proxy.prefetch.local import FetchedImage, ImageTooLarge, LocalPrefetch
from proxy.prefetch.through import ServedImage, ThroughPrefetch
from proxy.pull.blobs.service import Blobs
from proxy.pull.manifests.service import Manifests
from proxy.routing.table import RouteTable
from proxy.runtime.assemble import engine
from proxy.store.blobs import StoreError
from proxy.store.opened import opened_store
from proxy.upstream.body import BodyBroken

PARALLEL = 3
"""Maximum number of images fetched concurrently."""
FAILURES = (RegistryError, BodyBroken, StoreError, ImageTooLarge, PrefetchFailed)
"""Errors of one image; the others are fetched all the same."""

Fetched = TypeVar("Fetched", FetchedImage, ServedImage)


@dataclass(frozen=True, slots=True)
class PrefetchRequest:
    """What to fetch."""

    images: Sequence[str]
    platforms: frozenset[str]
    at: str = ""
    """Which of several proxies fetches it, for the output."""


class ImagePrefetch(Protocol[Fetched]):
    """Fetches images, and finds out in the end which of them are not complete."""

    async def fetch(
        self, image: ImageReference, platforms: frozenset[str], advance: Callable[[Progressed], None], /
    ) -> Fetched:
        """Fetch one image; raises one of FAILURES."""

    async def problems(self, images: Sequence[Fetched], /) -> list[str | None]:
        """Why each image is not complete; None for each that is. Raises StoreError."""


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="OS/ARCHITECTURE",
    help="Only this platform, such as linux/amd64; may be repeated.",
)
@click.option(
    "--file", "listing", type=click.Path(path_type=Path), help="A file with one image per line; # starts a comment."
)
@listener_options
@configuration_options
def prefetch(
    images: tuple[str, ...],
    platforms: tuple[str, ...],
    listing: Path | None,
    config: Path | None,
    registries: Path | None,
    **listener: Any,
) -> None:
    """Download whole images into the cache. The exit status is 1 if one of them is not complete there at the end.

    With --through, a running proxy downloads them into its own cache, and no configuration is read.
    """
    wanted = list(dict.fromkeys([*images, *_listed(listing)]))
    request = PrefetchRequest(wanted, frozenset(platforms))
    proxies = proxies_of(listener)
    if not wanted:
        raise click.UsageError("name at least one image, or give a file of them with --file")
    if proxies is None:
        loaded = source_of(config, registries).load_or_exit()
        work = partial(_into_store, loaded, cache_or_exit(loaded), request)
    else:
        work = partial(_through, proxies, request)
    with threads_or_exit():
        failed, total = asyncio.run(work())
    if failed:
        click.echo(f"{failed} of {total} images failed", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _listed(listing: Path | None) -> list[str]:
    if listing is None:
        return []
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {listing}: {error}") from None
    return [line for line in (text.partition("#")[0].strip() for text in lines) if line]


async def _into_store(loaded: Loaded, cache: Cache, request: PrefetchRequest) -> tuple[int, int]:
    """Fetch the images into the cache of this machine; how many failed, of how many."""
    async with opened_store(cache) as store, engine(loaded.config, store) as built:
        if not isinstance(built.manifests, Manifests) or not isinstance(built.blobs, Blobs):
            raise click.UsageError("no cache is configured")
        routes = RouteTable(loaded.config, loaded.positions)
        prefetch = LocalPrefetch(Prefetcher(routes, built.manifests, built.blobs), store, cache)
        return await _fetch_all(prefetch, request), len(request.images)


async def _through(proxies: RunningProxies, request: PrefetchRequest) -> tuple[int, int]:
    """Have each proxy fetch the images, one proxy after the other; how many failed, of how many."""
    try:
        listeners = await ready_listeners(proxies.wanted, proxies.tls, proxies.wait)
    except NotReady as error:
        click.echo(f"scope-proxy: {error}", err=True)
        return len(request.images), len(request.images)
    failed = 0
    for listener in listeners:
        at = "" if listener.address is None else f" at {listener.address}"
        async with listener_session(listener, proxies.tls, PARALLEL) as session:
            prefetch = ThroughPrefetch(ListenerClient(session, listener.origin, proxies.login))
            failed += await _fetch_all(prefetch, replace(request, at=at))
    return failed, len(request.images) * len(listeners)


async def _fetch_all(prefetch: ImagePrefetch[Fetched], request: PrefetchRequest) -> int:
    """Fetch every image, then check that all of them are complete; returns how many failed."""
    places = asyncio.Semaphore(PARALLEL)
    with bars() as progress:

        async def fetch(name: str) -> Fetched | None:
            async with places:
                return await _fetch(prefetch, name, request, progress)

        results = await asyncio.gather(*map(fetch, request.images))
    fetched = {name: image for name, image in zip(request.images, results, strict=True) if image is not None}
    try:
        problems = await prefetch.problems(list(fetched.values()))
    except StoreError as error:
        problems = [str(error)] * len(fetched)
    lines = [_failure(name, request, text) for name, text in zip(fetched, problems, strict=True) if text is not None]
    for line in lines:
        click.echo(line, err=True)
    return results.count(None) + len(lines)


async def _fetch(
    prefetch: ImagePrefetch[Fetched], name: str, request: PrefetchRequest, progress: Progress
) -> Fetched | None:
    """Fetch one image and print the result; None where that failed."""
    task = progress.add_task(name, total=None)

    def advance(step: Progressed) -> None:
        progress.update(task, total=step.total, completed=step.done)

    try:
        image = await prefetch.fetch(ImageReference.parse(name), request.platforms, advance)
    except FAILURES as error:
        progress.remove_task(task)
        print_line(progress, _failure(name, request, str(error)), err=True)
        return None
    finish(progress, task)
    step = image.progress
    sizes = f"{readable_size(step.done)}, {readable_size(step.fetched)} of it fetched"
    print_line(progress, f"{name}{request.at}: {sizes}")
    return image


def _failure(name: str, request: PrefetchRequest, reason: str) -> str:
    return f"{name}{request.at}: failed: {reason}"
