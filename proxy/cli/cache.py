"""`scope-proxy cache`: inspect and maintain the cache, also while the proxy runs."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from proxy.cli.main import LateGroup
from proxy.cli.options import EXIT_CONFIG, configuration_options, source_of, threads_or_exit
from proxy.config.base import parse_size
from proxy.config.load import Loaded
from proxy.config.model import Cache
from proxy.oci.errors import RegistryError
from proxy.oci.reference import Digest, ImageReference, Tag
from proxy.routing.table import RepositoryKey, RouteTable
from proxy.store.blobs import StoreError
from proxy.store.eviction import Obstacle
from proxy.store.maintenance import verify_all
from proxy.store.opened import OpenedStore, opened_store
from proxy.store.tags import content_of, forget_manifest, in_use, stored_tags


def bars() -> Progress:
    """Progress bars on standard error; none where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    console = Console(stderr=True)
    return Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()
    )


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """One progress bar of `total` bytes; yields a function that advances it."""
    with bars() as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.update(task, advance=amount)


EXIT_FAILED = 1
"""Exit status when an operation failed or content is corrupt."""


@click.group(cls=LateGroup, modules={"prefetch": "proxy.cli.prefetch"})
def cache() -> None:
    """Inspect and maintain the cache; a running proxy keeps serving meanwhile."""


def _cached(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a command with the configuration and its opened store."""

    def run(config: Path | None, registries: Path | None, **arguments: Any) -> None:
        loaded = source_of(config, registries).load_or_exit()
        if loaded.config.cache is None:
            click.echo("scope-proxy: no cache is configured: set cache: {path: ...}", err=True)
            raise click.exceptions.Exit(EXIT_CONFIG)

        async def with_store() -> None:
            async with _store(loaded) as store:
                await command(loaded, store, **arguments)

        try:
            with threads_or_exit():
                asyncio.run(with_store())
        except (StoreError, RegistryError) as error:
            click.echo(f"scope-proxy: {error}", err=True)
            raise click.exceptions.Exit(EXIT_FAILED) from None

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    return run


@asynccontextmanager
async def _store(loaded: Loaded) -> AsyncIterator[OpenedStore]:
    if loaded.config.cache is None:
        raise StoreError("no cache is configured")
    async with opened_store(loaded.config.cache) as store:
        yield store


@cache.command()
@configuration_options
@_cached
async def stat(loaded: Loaded, store: OpenedStore) -> None:
    """Show where the cache is and how much it stores."""
    await store.index.tidied()
    totals = await store.index.totals()
    tags = sum(1 for _ in stored_tags(store.layout))
    limit = loaded.config.cache.max_size if loaded.config.cache else 0
    for label, value in (
        ("directory", str(store.layout.root)),
        ("stored", f"{human(totals.bytes)} in {totals.objects} objects"),
        ("index", human(totals.index)),
        ("limit", f"{human(limit)} ({100 * totals.bytes / limit:.1f} % used)"),
        ("tags", str(tags)),
        ("downloads", str(len(list(store.layout.ingest.glob("*.part"))))),
    ):
        click.echo(f"{label:<10}{value}")


@cache.command()
@configuration_options
@click.option("--blobs", is_flag=True, help="List digests and sizes instead of tags.")
@_cached
async def ls(_: Loaded, store: OpenedStore, *, blobs: bool) -> None:
    """List the stored tags: image, digest, when the upstream last confirmed it."""
    if blobs:
        async for digest, size in store.blobs.list():
            click.echo(f"{digest}  {size}")
        return
    now = time.time()
    for item in stored_tags(store.layout):
        age = max(now - item.entry.confirmed, 0)
        click.echo(f"{item}  {item.entry.descriptor.digest}  confirmed {age:.0f} s ago")


@cache.command()
@configuration_options
@_cached
async def verify(_: Loaded, store: OpenedStore) -> None:
    """Hash all objects; corrupt ones are reported and removed, and the exit status is 1."""
    totals = await store.index.totals()
    wrong = 0
    with counted("verified", totals.bytes) as advance:
        async for checked in verify_all(store.blobs):
            advance(checked.size)
            if not checked.is_right:
                wrong += 1
                click.echo(f"{checked.digest} is corrupt and was removed", err=True)
    click.echo(f"{totals.objects} objects checked, {wrong} removed")
    if wrong:
        raise click.exceptions.Exit(EXIT_FAILED)


@cache.command()
@configuration_options
@click.option("--to", "target", metavar="SIZE", help="Size to reduce the cache to, such as 10Gi; default: maxSize.")
@_cached
async def prune(loaded: Loaded, store: OpenedStore, *, target: str | None) -> None:
    """Remove the least recently used objects until the cache is within its limits."""
    try:
        wanted = None if target is None else parse_size(target)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    await store.index.tidied()
    before = await store.index.totals()
    obstacle = await store.evictor.prune(wanted)
    after = await store.index.totals()
    click.echo(f"{before.objects - after.objects} objects removed, {human(before.bytes - after.bytes)} freed")
    if obstacle is not None and loaded.config.cache is not None:
        click.echo(f"scope-proxy: {_explanation(obstacle, loaded.config.cache, after.bytes)}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _explanation(obstacle: Obstacle, cache: Cache, stored: int) -> str:
    """Why the cache still exceeds the limits of `prune`, and what to do."""
    match obstacle:
        case Obstacle.DISK:
            free = f"less than reserveFree ({human(cache.reserve_free)}) of the disk is free"
            return f"{free}, even without the cache: free space on the disk of {cache.path}"
        case Obstacle.DOWNLOADS:
            return f"downloads in progress need more than maxSize ({human(cache.max_size)}): run prune again after them"
        case Obstacle.OTHER_PROCESS:
            return f"{human(stored)} are still stored: another process is removing objects; run prune again"
        case Obstacle.NEW_OBJECTS:
            return f"{human(stored)} are still stored: another process is storing objects; run prune again"


@cache.command()
@click.argument("image")
@configuration_options
@_cached
async def rm(loaded: Loaded, store: OpenedStore, *, image: str) -> None:
    """Remove IMAGE: its tag, its manifests, and the blobs that no other manifest references."""
    name = ImageReference.parse(image)
    route = RouteTable(loaded.config, loaded.positions).resolve(name.repository, namespace=name.registry)
    manifests = await _manifests(store, route.keys(), name.reference)
    if not manifests:
        click.echo(f"{name} is not in the cache", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
    freed = 0
    for key, manifest in manifests:
        freed += await _remove(store, list(content_of(store.layout, manifest)))
        await asyncio.to_thread(forget_manifest, store.layout, key, manifest)
    await asyncio.to_thread(store.layout.announce_change)
    click.echo(f"{name} removed, {human(freed)} freed")


async def _manifests(
    store: OpenedStore, keys: list[RepositoryKey], reference: Tag | Digest
) -> list[tuple[RepositoryKey, Digest]]:
    """The manifests of the reference, under each key that has them; removes the tag."""
    if isinstance(reference, Digest):
        return [(key, reference) for key in keys]
    found = []
    for key in keys:
        entry = await store.tags.find(key, reference)
        if entry is not None:
            await store.tags.remove(key, reference)
            found.append((key, entry.descriptor.digest))
    return found


async def _remove(store: OpenedStore, digests: list[Digest]) -> int:
    """Remove the blobs that nothing else references; returns the bytes freed."""
    used = await asyncio.to_thread(in_use, store.layout, digests)
    freed = 0
    for digest in digests:
        content = None if digest in used else await store.blobs.find(digest)
        if content is not None:
            freed += content.size
            content.close()
            await store.blobs.remove(digest)
    return freed


def human(size: float) -> str:
    """A size with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
