"""`scope-proxy cache export` and `cache import`: carry images to a cache without a network."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import click

from proxy.cli.cache import EXIT_FAILED
from proxy.cli.options import cache_or_exit, configuration_options, source_of, threads_or_exit
from proxy.cli.progress import counted
from proxy.config.address import canonical_registry
from proxy.config.base import readable_size
from proxy.config.cache import Cache
from proxy.config.load import Loaded
from proxy.oci.descriptor import Descriptor
from proxy.oci.errors import RegistryError
from proxy.oci.reference import ImageReference
from proxy.routing.table import Route, RouteTable
from proxy.store.blobs import StoreError
from proxy.store.bundle import opened_bundle
from proxy.store.bundle_export import Collector, export
from proxy.store.bundle_import import BundleImporter, PlacedImage, imported_images, plan_import
from proxy.store.bundle_names import named_images
from proxy.store.opened import opened_store
from proxy.store.tar_entries import BundleError


@click.command("export")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-o",
    "--output",
    "bundle",
    required=True,
    metavar="BUNDLE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write, such as bundle.tar; replaced only once the new one is complete.",
)
@configuration_options
def export_images(images: tuple[str, ...], bundle: Path, config: Path | None, registries: Path | None) -> None:
    """Write images from the cache into a bundle. A bundle is an OCI image layout in a tar."""
    loaded, cache = _loaded(config, registries)
    _run(bundle, lambda: _export(loaded, cache, images, bundle))


@click.command("import")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--registry",
    "names",
    required=True,
    multiple=True,
    metavar="REGISTRY",
    help="The registry that the images come from, as nodes name it; may be repeated. Images of others are refused.",
)
@click.option("--name", metavar="IMAGE", help="The name of the image, for a bundle of one image without a name.")
@configuration_options
def import_bundle(
    bundle: Path, names: tuple[str, ...], name: str | None, config: Path | None, registries: Path | None
) -> None:
    """Store the images of a bundle in the cache.

    They count as delivered by the endpoints of REGISTRY.
    """
    loaded, cache = _loaded(config, registries)
    try:
        origins = frozenset(map(canonical_registry, names))
    except ValueError as error:
        raise click.UsageError(f"--registry: {error}") from None
    _run(bundle, lambda: _import(loaded, cache, bundle, origins, name))


def _loaded(config: Path | None, registries: Path | None) -> tuple[Loaded, Cache]:
    loaded = source_of(config, registries).load_or_exit()
    return loaded, cache_or_exit(loaded)


def _run(bundle: Path, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it; prints an error and exits with status 1."""
    try:
        with threads_or_exit():
            asyncio.run(work())
    except BundleError as error:
        _fail(f"{bundle}: {error}")
    except (StoreError, RegistryError) as error:
        _fail(str(error))


def _fail(message: str) -> None:
    click.echo(f"scope-proxy: {message}", err=True)
    raise click.exceptions.Exit(EXIT_FAILED)


async def _export(loaded: Loaded, cache: Cache, images: Sequence[str], bundle: Path) -> None:
    routes = RouteTable(loaded.config, loaded.positions)
    async with opened_store(cache) as store:
        collector = Collector(store)
        exports = [await collector.collect(image, _route(routes, image)) for image in map(ImageReference.parse, images)]
        sizes = {digest: size for each in exports for digest, size in each.sizes.items()}
        with counted("exported", sum(sizes.values())) as advance:
            await export(store, exports, bundle, advance)
    for each in exports:
        left_out = f", {each.left_out} of its manifests left out: not complete in the cache" if each.left_out else ""
        click.echo(f"{each.image}: {readable_size(each.size)}{left_out}")


async def _import(loaded: Loaded, cache: Cache, path: Path, registries: frozenset[str], name: str | None) -> None:
    routes = RouteTable(loaded.config, loaded.positions)
    with opened_bundle(path) as bundle:
        asks_upstream = any(listener.clients.asks_upstream for listener in loaded.config.listeners)
        images = named_images(bundle.images, registries, name)
        placed = [
            _placed(image, _route(routes, image), manifest, asks_upstream=asks_upstream) for image, manifest in images
        ]
        plan = await asyncio.to_thread(plan_import, bundle, placed, cache.max_manifest_digests)
        async with opened_store(cache) as store:
            with counted("imported", plan.size) as advance:
                await BundleImporter(store, bundle, cache.max_size, advance).run(plan)
    for image, size in imported_images(plan):
        click.echo(f"{image}: {readable_size(size)}")
    if plan.absent:
        click.echo(f"{plan.absent} manifests of other platforms are not in the bundle", err=True)


def _placed(image: ImageReference, route: Route, manifest: Descriptor, *, asks_upstream: bool) -> PlacedImage:
    """An image with its route; clients with credentials of their own request it under keys of their own."""
    return PlacedImage(image, route, route.keys() if asks_upstream else [route.key], manifest)


def _route(routes: RouteTable, image: ImageReference) -> Route:
    return routes.resolve(image.repository, namespace=image.registry)
