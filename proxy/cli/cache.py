"""`scope-proxy cache`: inspect and maintain the cache, also while the proxy runs."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from proxy.cli.main import LateGroup
from proxy.cli.options import cache_or_exit, configuration_options, source_of, threads_or_exit
from proxy.cli.progress import counted
from proxy.config.base import parse_size, readable_size
from proxy.config.cache import Cache
from proxy.config.load import Loaded
from proxy.oci.errors import RegistryError
from proxy.store.blobs import StoreError
from proxy.store.eviction import Obstacle
from proxy.store.inventory import stored_tags
from proxy.store.maintenance import verify_all
from proxy.store.opened import OpenedStore, opened_store

EXIT_FAILED = 1
"""Exit status when an operation failed or content is corrupt."""


_MODULES = {
    "prefetch": "proxy.cli.prefetch",
    "export": "proxy.cli.bundle:export_images",
    "import": "proxy.cli.bundle:import_bundle",
    **dict.fromkeys(("ls", "rm", "pin", "unpin"), "proxy.cli.images"),
}


@click.group(cls=LateGroup, modules=_MODULES)
def cache() -> None:
    """Inspect and maintain the cache; a running proxy keeps serving meanwhile."""


def cache_command(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a command with the configuration and its opened store."""

    def run(config: Path | None, registries: Path | None, **arguments: Any) -> None:
        loaded = source_of(config, registries).load_or_exit()
        section = cache_or_exit(loaded)

        async def with_store() -> None:
            async with opened_store(section) as store:
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


@cache.command()
@configuration_options
@cache_command
async def stat(loaded: Loaded, store: OpenedStore) -> None:
    """Show where the cache is and how much it stores."""
    await store.index.tidied()
    totals = await store.index.totals()
    tags = sum(1 for _ in stored_tags(store.layout))
    limit = cache_or_exit(loaded).max_size
    for label, value in (
        ("directory", str(store.layout.root)),
        ("stored", f"{readable_size(totals.bytes)} in {totals.objects} objects"),
        ("index", readable_size(totals.index)),
        ("limit", f"{readable_size(limit)} ({100 * totals.bytes / limit:.1f} % used)"),
        ("tags", str(tags)),
        ("downloads", str(len(list(store.layout.ingest.glob("*.part"))))),
    ):
        click.echo(f"{label:<10}{value}")


@cache.command()
@configuration_options
@cache_command
async def verify(_: Loaded, store: OpenedStore) -> None:
    """Hash all content. Corrupt content is reported and deleted, and the exit status is 1."""
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
@cache_command
async def prune(loaded: Loaded, store: OpenedStore, *, target: str | None) -> None:
    """Reduce the cache to its limits. The least recently used images are deleted first."""
    try:
        wanted = None if target is None else parse_size(target)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    await store.index.tidied()
    before = await store.index.totals()
    obstacle = await store.evictor.prune(wanted)
    after = await store.index.totals()
    click.echo(f"{before.objects - after.objects} objects removed, {readable_size(before.bytes - after.bytes)} freed")
    if obstacle is not None:
        click.echo(f"scope-proxy: {_explanation(obstacle, cache_or_exit(loaded), after.bytes)}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _explanation(obstacle: Obstacle, cache: Cache, stored: int) -> str:
    """Why the cache still exceeds the limits of `prune`, and what to do."""
    still = f"{readable_size(stored)} are still stored"
    max_size = readable_size(cache.max_size)
    match obstacle:
        case Obstacle.DISK:
            free = f"less than reserveFree ({readable_size(cache.reserve_free)}) of the disk is free"
            return f"{free}, even without the cache: free space on the disk of {cache.path}"
        case Obstacle.PINNED:
            return f"{still}: the pinned images do not fit; unpin some or raise maxSize"
        case Obstacle.DOWNLOADS:
            return f"downloads in progress need more than maxSize ({max_size}): run prune again after them"
        case Obstacle.OTHER_PROCESS:
            return f"{still}: another process is removing objects; run prune again"
        case Obstacle.NEW_OBJECTS:
            return f"{still}: another process is storing objects; run prune again"
