"""`scope-proxy cache prefetch`: fetches whole images into the cache in advance."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import click
from rich.progress import Progress

from proxy.cli.cache import EXIT_FAILED
from proxy.cli.options import EXIT_CONFIG, configuration_options, source_of, threads_or_exit
from proxy.cli.progress import bars, finish, print_line
from proxy.config.base import readable_size
from proxy.config.load import Loaded
from proxy.config.model import Cache
from proxy.oci.errors import RegistryError
from proxy.oci.reference import ImageReference
from proxy.prefetch.local import FetchedImage, ImageTooLarge, LocalPrefetch
from proxy.pull.blobs.service import Blobs
from proxy.pull.manifests.service import Manifests
from proxy.pull.prefetch import Prefetcher, Progressed
from proxy.routing.table import RouteTable
from proxy.runtime.assemble import engine
from proxy.store.blobs import StoreError
from proxy.store.opened import opened_store
from proxy.upstream.body import BodyBroken

PARALLEL = 3
"""Maximum number of images fetched concurrently."""


@click.command()
@click.argument("images", nargs=-1)
@click.option(
    "--platform", "platforms", multiple=True, help="Only this platform, such as linux/amd64; may be repeated."
)
@click.option(
    "--file", "listing", type=click.Path(path_type=Path), help="A file with one image a line, # for comments."
)
@configuration_options
def prefetch(
    images: tuple[str, ...],
    platforms: tuple[str, ...],
    listing: Path | None,
    config: Path | None,
    registries: Path | None,
) -> None:
    """Fetch IMAGES into the cache, with all their manifests and blobs; status 1 if one of them fails."""
    loaded = source_of(config, registries).load_or_exit()
    cache = loaded.config.cache
    if cache is None:
        click.echo("scope-proxy: no cache is configured: set cache: {path: ...}", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG)
    wanted = list(dict.fromkeys([*images, *_listed(listing)]))
    if not wanted:
        raise click.UsageError("name images, or a --file of them")
    with threads_or_exit():
        failed = asyncio.run(_fetch_all(loaded, cache, wanted, frozenset(platforms)))
    if failed:
        click.echo(f"{failed} of {len(wanted)} images failed", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _listed(listing: Path | None) -> list[str]:
    if listing is None:
        return []
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {listing}: {error}") from None
    return [line for line in (text.partition("#")[0].strip() for text in lines) if line]


async def _fetch_all(loaded: Loaded, cache: Cache, wanted: list[str], platforms: frozenset[str]) -> int:
    """Fetch every image, then check that the cache has all of them; returns how many failed."""
    async with opened_store(cache) as store, engine(loaded.config, store) as built:
        if not isinstance(built.manifests, Manifests) or not isinstance(built.blobs, Blobs):
            raise click.UsageError("no cache is configured")
        routes = RouteTable(loaded.config, loaded.positions)
        prefetch = LocalPrefetch(Prefetcher(routes, built.manifests, built.blobs), store, cache)
        places = asyncio.Semaphore(PARALLEL)
        with bars() as progress:

            async def fetch(name: str) -> FetchedImage | None:
                async with places:
                    return await _fetch(prefetch, name, platforms, progress)

            results = await asyncio.gather(*map(fetch, wanted))
        fetched = {name: image for name, image in zip(wanted, results, strict=True) if image is not None}
        return results.count(None) + await _report_incomplete(prefetch, fetched)


async def _fetch(
    prefetch: LocalPrefetch, name: str, platforms: frozenset[str], progress: Progress
) -> FetchedImage | None:
    """Fetch one image and print the result; None where that failed."""
    task = progress.add_task(name, total=None)

    def advance(step: Progressed) -> None:
        progress.update(task, total=step.total, completed=step.done)

    try:
        image = await prefetch.fetch(ImageReference.parse(name), platforms, advance)
    except (RegistryError, BodyBroken, StoreError, ImageTooLarge) as error:
        progress.remove_task(task)
        print_line(progress, f"{name}: failed: {error}", err=True)
        return None
    finish(progress, task)
    step = image.progress
    print_line(progress, f"{name}: {readable_size(step.done)}, {readable_size(step.fetched)} of it fetched")
    return image


async def _report_incomplete(prefetch: LocalPrefetch, fetched: Mapping[str, FetchedImage]) -> int:
    """Print the images that the cache does not have as a whole; returns their number."""
    try:
        problems = await prefetch.problems(list(fetched.values()))
    except StoreError as error:
        problems = [str(error)] * len(fetched)
    failed = [f"{name}: failed: {problem}" for name, problem in zip(fetched, problems, strict=True) if problem]
    for line in failed:
        click.echo(line, err=True)
    return len(failed)
