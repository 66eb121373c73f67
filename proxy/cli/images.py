"""`scope-proxy cache ls`, `rm`, `pin` and `unpin`: the cached images."""

import asyncio
import functools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from proxy.cli.cache import EXIT_FAILED, cache_command, human
from proxy.cli.options import configuration_options
from proxy.config.load import Loaded
from proxy.oci.reference import DEFAULT_TAG, Digest, ImageReference, Tag
from proxy.routing.table import RepositoryKey, RouteTable
from proxy.rules.image_pattern import ImagePattern
from proxy.store.disk import store_errors
from proxy.store.inventory import (
    StoredImage,
    content_of,
    forget_manifest,
    in_use,
    stored_image,
    stored_tags,
)
from proxy.store.opened import OpenedStore
from proxy.store.pins import is_pinned, pins
from proxy.store.pins import pin as note_pin
from proxy.store.pins import unpin as remove_pin

BATCH = 500
"""Images that are read from the store in one go."""


def _patterns(texts: Iterable[str], *, default_tag: str | None = None) -> tuple[ImagePattern, ...]:
    """The patterns that were typed; a name without wildcards and tag gets the default tag. Exits with status 2."""
    found = []
    for text in texts:
        try:
            pattern = ImagePattern.parse(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if default_tag is not None and "*" not in text and pattern.tags is None and pattern.digest is None:
            pattern = ImagePattern(pattern.repositories, default_tag)
        found.append(pattern)
    return tuple(found)


@click.command()
@click.argument("patterns", nargs=-1)
@configuration_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--blobs", is_flag=True, help="List digests and sizes instead of images.")
@cache_command
async def ls(loaded: Loaded, store: OpenedStore, *, patterns: tuple[str, ...], as_json: bool, blobs: bool) -> None:
    """List the cached images: those that match a PATTERN such as 'docker.io/library/*', or all."""
    if blobs:
        async for digest, size in store.blobs.list():
            click.echo(f"{digest}  {size}")
        return
    listed = await _images(store, _patterns(patterns))
    keep = await _pinning(loaded, store)
    if as_json:
        click.echo(json.dumps([_fields(image, pinned=is_pinned(image.stored, keep)) for image in listed], indent=2))
        return
    now = time.time()
    rows = [("IMAGE", "UPSTREAM", "SIZE", "PLATFORMS", "LAST USED", "STATE")]
    rows += [_row(image, now, pinned=is_pinned(image.stored, keep)) for image in listed]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


async def _images(store: OpenedStore, patterns: Sequence[ImagePattern]) -> list[StoredImage]:
    """The stored images that one of the patterns is for; all of them without a pattern. Raises StoreError."""
    with store_errors("cannot list the cache"):
        tags = await asyncio.to_thread(lambda: list(stored_tags(store.layout)))
        chosen = sorted((tag for tag in tags if not patterns or is_pinned(tag, patterns)), key=str)
        found = []
        for first in range(0, len(chosen), BATCH):
            batch = chosen[first : first + BATCH]
            used = await store.index.last_used([tag.entry.descriptor.digest for tag in batch])
            for tag in batch:
                when = used.get(tag.entry.descriptor.digest)
                found.append(await asyncio.to_thread(stored_image, store.layout, tag, when))
    return found


async def _pinning(loaded: Loaded, store: OpenedStore) -> tuple[ImagePattern, ...]:
    kept = loaded.config.cache.keep if loaded.config.cache else ()
    with store_errors("cannot read which images are pinned"):
        return (*kept, *await asyncio.to_thread(pins, store.layout))


def _row(image: StoredImage, now: float, *, pinned: bool) -> tuple[str, str, str, str, str, str]:
    stored, platforms = image.stored, image.platforms
    state = "complete" if image.is_complete else "incomplete"
    names = (*platforms.complete, *(f"{name} (incomplete)" for name in platforms.incomplete))
    return (
        str(stored),
        f"{stored.upstream_name}@{stored.entry.descriptor.digest.hex[:12]}",
        human(image.size),
        ",".join(names) or "none",
        "unknown" if image.used is None else _ago(now - image.used),
        f"{state}, pinned" if pinned else state,
    )


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _fields(image: StoredImage, *, pinned: bool) -> dict[str, Any]:
    stored = image.stored
    return {
        "image": str(stored),
        "names": [f"{name}:{stored.tag}" for name in stored.names],
        "upstream": f"{stored.upstream_name}:{stored.tag}",
        "digest": stored.entry.descriptor.digest.text,
        "size": image.size,
        "platforms": list(image.platforms.complete),
        "incompletePlatforms": list(image.platforms.incomplete),
        "lastUsed": image.used,
        "confirmed": stored.entry.confirmed,
        "complete": image.is_complete,
        "pinned": pinned,
    }


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
    """Remove images: tags, manifests, and the blobs that no other manifest references.

    IMAGE is a name as `ls` prints it, a node's or the upstream's, or a pattern such as 'docker.io/library/*'.
    """
    failed = False
    for image in images:
        removals = await asyncio.to_thread(lambda text: list(_removals(loaded, store, text)), image)
        if not removals:
            click.echo(f"{image} is not in the cache", err=True)
            failed = True
        for removal in removals:
            freed = await _remove_image(store, removal)
            click.echo(f"{removal.label} removed, {human(freed)} freed")
    await asyncio.to_thread(store.layout.announce_change)
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)


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
        if is_meant or is_pinned(stored, [pattern]):
            yield _Removal(stored.key, digest, stored.tag, str(stored))
    if pattern.digest is not None:
        for key in keys:
            if pattern.digest in store.layout.marked(store.layout.repository(key.text)):
                yield _Removal(key, pattern.digest, None, text)


async def _remove_image(store: OpenedStore, removal: _Removal) -> int:
    """Remove a tag, its manifest, and the blobs that nothing else references; returns the bytes freed."""
    if removal.tag is not None:
        await store.tags.remove(removal.key, removal.tag)
    digests = list(await asyncio.to_thread(lambda: list(content_of(store.layout, removal.manifest))))
    used = await asyncio.to_thread(in_use, store.layout, digests)
    freed = 0
    for digest in digests:
        content = None if digest in used else await store.blobs.find(digest)
        if content is not None:
            freed += content.size
            content.close()
            await store.blobs.remove(digest)
    await asyncio.to_thread(forget_manifest, store.layout, removal.key, removal.manifest)
    return freed


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@configuration_options
@cache_command
async def pin(_: Loaded, store: OpenedStore, *, images: tuple[str, ...]) -> None:
    """Pin images, or patterns of images: they are never evicted. Those to come are pinned as well."""
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
    """Remove pins, each as it was given to `pin`; `cache.keep` is changed in the configuration."""
    failed = False
    for pattern in _patterns(images):
        with store_errors("cannot unpin"):
            was_pinned = await asyncio.to_thread(functools.partial(remove_pin, store.layout, pattern))
        click.echo(f"{pattern} unpinned" if was_pinned else f"{pattern} is not pinned", err=not was_pinned)
        failed |= not was_pinned
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)
