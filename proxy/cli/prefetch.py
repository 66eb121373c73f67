"""`scope-proxy cache prefetch`: fetches whole images into the cache in advance."""

import asyncio
from pathlib import Path

import click
from rich.progress import Progress, TaskID

from proxy.cli.cache import EXIT_FAILED, bars, human
from proxy.cli.options import EXIT_CONFIG, configuration_options, source_of, threads_or_exit
from proxy.config.load import Loaded
from proxy.oci.errors import RegistryError
from proxy.oci.reference import ImageReference
from proxy.pull.blobs.service import Blobs
from proxy.pull.manifests.service import Manifests
from proxy.pull.prefetch import Prefetcher
from proxy.runtime.assemble import assembled
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
    if loaded.config.cache is None:
        click.echo("scope-proxy: no cache is configured: set cache: {path: ...}", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG)
    wanted = [*images, *_listed(listing)]
    if not wanted:
        raise click.UsageError("name at least one image, or give a file of them with --file")
    with threads_or_exit():
        failed = asyncio.run(_fetch_all(loaded, wanted, frozenset(platforms)))
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


async def _fetch_all(loaded: Loaded, wanted: list[str], platforms: frozenset[str]) -> int:
    """Fetch every image; returns how many failed."""
    async with assembled(loaded) as pulls:
        if not isinstance(pulls.manifests, Manifests) or not isinstance(pulls.blobs, Blobs):
            raise click.UsageError("no cache is configured")
        prefetcher = Prefetcher(pulls.routes, pulls.manifests, pulls.blobs)
        places = asyncio.Semaphore(PARALLEL)
        with bars() as progress:

            async def fetch(name: str) -> bool:
                async with places:
                    return await _fetch(prefetcher, name, platforms, progress)

            return sum([not good for good in await asyncio.gather(*map(fetch, wanted))])


async def _fetch(prefetcher: Prefetcher, name: str, platforms: frozenset[str], progress: Progress) -> bool:
    """Fetch one image and print the result."""
    task: TaskID = progress.add_task(name, total=None)
    done = fetched = 0
    try:
        async for step in prefetcher.fetch(ImageReference.parse(name), platforms):
            done, fetched = step.done, step.fetched
            progress.update(task, total=step.total, completed=step.done)
    except (RegistryError, BodyBroken) as error:
        progress.console.print(f"{name}: failed: {error}", markup=False, highlight=False)
        return False
    finally:
        progress.remove_task(task)
    click.echo(f"{name}: {human(done)}, {human(fetched)} of it fetched")
    return True
