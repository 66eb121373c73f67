"""`scope-proxy cache ls`, `rm`, `pin` and `unpin`: the cached images."""

import asyncio
import functools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import click

from proxy.cli.cache import EXIT_FAILED, cache_command
from proxy.cli.options import cache_or_exit, configuration_options
from proxy.config.base import readable_size
from proxy.config.load import Loaded
from proxy.oci.reference import DEFAULT_TAG, Digest, ImageReference, Tag
from proxy.routing.table import RepositoryKey, RouteTable
from proxy.rules.image_pattern import ImagePattern
from proxy.store.disk import store_errors
from proxy.store.images import CachedImage, cached_images
from proxy.store.inventory import content_of, forget_manifests, marked_content, stored_tags
from proxy.store.layout import Layout
from proxy.store.opened import OpenedStore
from proxy.store.pins import pin as note_pin
from proxy.store.pins import unpin as remove_pin


def _patterns(texts: Iterable[str], *, default_tag: str | None = None) -> tuple[ImagePattern, ...]:
    """The patterns that were typed; a name without wildcards and tag gets the default tag. Exits with status 2."""
    patterns = []
    for text in texts:
        try:
            pattern = ImagePattern.parse(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if default_tag is not None and "*" not in text and pattern.tags is None and pattern.digest is None:
            pattern = ImagePattern(pattern.repositories, default_tag)
        patterns.append(pattern)
    return tuple(patterns)


@click.command()
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@configuration_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--blobs", is_flag=True, help="List digests and sizes instead of images.")
@cache_command
async def ls(loaded: Loaded, store: OpenedStore, *, patterns: tuple[str, ...], as_json: bool, blobs: bool) -> None:
    """List the cached images. PATTERN selects some of them, such as 'docker.io/library/*'."""
    if blobs:
        async for digest, size in store.blobs.list():
            click.echo(f"{digest}  {size}")
        return
    keep = cache_or_exit(loaded).keep
    listed = await cached_images(store.layout, store.index, keep=keep, patterns=_patterns(patterns))
    images = sorted(listed.images, key=lambda image: image.name)
    if as_json:
        click.echo(json.dumps([image.as_dict() for image in images], indent=2))
        return
    now = time.time()
    rows = [("IMAGE", "UPSTREAM", "SIZE", "PLATFORMS", "LAST USED", "STATE"), *(_row(image, now) for image in images)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(cached: CachedImage, now: float) -> tuple[str, str, str, str, str, str]:
    image, stored = cached.image, cached.image.stored
    used = "unknown" if image.used is None else _ago(now - image.used)
    upstream = f"{stored.upstream_name}@{stored.entry.descriptor.digest.hex[:12]}"
    return cached.name, upstream, readable_size(image.size), cached.platforms, used, cached.state


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


@dataclass(frozen=True, slots=True)
class _Removal:
    """A manifest to remove, where it is held, and its tag there."""

    key: RepositoryKey
    manifest: Digest
    tag: Tag | None
    label: str


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@configuration_options
@cache_command
async def rm(loaded: Loaded, store: OpenedStore, *, images: tuple[str, ...]) -> None:
    """Delete images from the cache. This includes tags, and the manifests and blobs that no other image needs.

    IMAGE is a name as `ls` prints it, the node's or the upstream's, or a pattern such as 'docker.io/library/*'.
    """
    removals: dict[_Removal, None] = {}
    failed = False
    for image in images:
        named = await asyncio.to_thread(lambda text: list(_removals(loaded, store, text)), image)
        removals |= dict.fromkeys(named)
        if not named:
            click.echo(f"{image} is not in the cache", err=True)
            failed = True
    if removals:
        await _remove(store, list(removals))
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)


async def _remove(store: OpenedStore, removals: Sequence[_Removal]) -> None:
    """Remove images, and print what each has freed."""
    for removal in removals:
        if removal.tag is not None:
            await store.tags.remove(removal.key, removal.tag)
    contents, used = await asyncio.to_thread(_forget, store.layout, removals)
    for removal in removals:
        freed = await _remove_blobs(store, contents[removal] - used)
        click.echo(f"{removal.label} removed, {readable_size(freed)} freed")
    await asyncio.to_thread(store.layout.announce_change)


def _removals(loaded: Loaded, store: OpenedStore, text: str) -> Iterator[_Removal]:
    """What an argument names; blocking."""
    [pattern] = _patterns([text], default_tag=DEFAULT_TAG)
    keys: list[RepositoryKey] = []
    if "*" not in text:
        name = ImageReference.parse(text)
        route = RouteTable(loaded.config, loaded.positions).resolve(name.repository, namespace=name.registry)
        keys = route.keys()
    for stored in stored_tags(store.layout):
        digest = stored.entry.descriptor.digest
        is_meant = stored.key in keys and pattern.tags in (None, stored.tag.name) and pattern.digest in (None, digest)
        if is_meant or stored.matches_any([pattern]):
            yield _Removal(stored.key, digest, stored.tag, str(stored))
    if pattern.digest is not None:
        for key in keys:
            if pattern.digest in store.layout.marked(store.layout.repository(key.text)):
                yield _Removal(key, pattern.digest, None, text)


def _forget(
    layout: Layout, removals: Sequence[_Removal]
) -> tuple[dict[_Removal, frozenset[Digest]], frozenset[Digest]]:
    """Unmark the manifests, whose tags are removed; the content of each image, and all that is still in use. Blocking.

    Reads all other manifests, so it is done once for all images.
    """
    contents = {removal: frozenset(content_of(layout, removal.manifest)) for removal in removals}
    by_key: dict[RepositoryKey, set[Digest]] = {}
    for removal, digests in contents.items():
        by_key.setdefault(removal.key, set()).update(digests)
    tagged = [forget_manifests(layout, key, digests) for key, digests in by_key.items()]
    return contents, frozenset(marked_content(layout).union(*tagged))


async def _remove_blobs(store: OpenedStore, digests: Iterable[Digest]) -> int:
    """Remove stored content; returns the bytes freed."""
    freed = 0
    for digest in digests:
        content = await store.blobs.find(digest)
        if content is not None:
            freed += content.size
            content.close()
            await store.blobs.remove(digest)
    return freed


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@configuration_options
@cache_command
async def pin(_: Loaded, store: OpenedStore, *, images: tuple[str, ...]) -> None:
    """Pin images: they are never evicted. IMAGE is a name or a pattern, also of images that are stored later."""
    for pattern in _patterns(images):
        with store_errors("cannot pin"):
            try:
                is_new = await asyncio.to_thread(functools.partial(note_pin, store.layout, pattern))
            except ValueError as error:
                raise click.UsageError(str(error)) from None
        click.echo(f"{pattern} pinned" if is_new else f"{pattern} was pinned already")
    await asyncio.to_thread(store.layout.announce_change)


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@configuration_options
@cache_command
async def unpin(_: Loaded, store: OpenedStore, *, images: tuple[str, ...]) -> None:
    """Remove pins. IMAGE is what `pin` got; for `cache.keep`, change the configuration."""
    failed = False
    for pattern in _patterns(images):
        with store_errors("cannot unpin"):
            was_pinned = await asyncio.to_thread(functools.partial(remove_pin, store.layout, pattern))
        click.echo(f"{pattern} unpinned" if was_pinned else f"{pattern} is not pinned", err=not was_pinned)
        failed |= not was_pinned
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)
