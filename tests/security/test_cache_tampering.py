"""Somebody else writes to the cache's volume: no file outside of it is read or written, no wrong byte is served."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from tests.cache.serving import cached, stored_file
from tests.fakes.proxy import blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

SECRET = b"what the proxy may read and nobody else"


def _link(path: Path, secret: Path) -> None:
    path.unlink()
    path.symlink_to(secret)


def _hard_link(path: Path, secret: Path) -> None:
    path.unlink()
    path.hardlink_to(secret)


def _pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def _swapped(path: Path, _: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _replaced(path: Path, secret: Path) -> None:
    path.unlink()
    shutil.copy(secret, path)


def _linked_directory(path: Path, secret: Path) -> None:
    elsewhere = secret.parent / "elsewhere"
    shutil.move(path.parent, elsewhere)
    (elsewhere / path.name).write_bytes(SECRET)
    path.parent.symlink_to(elsewhere)


def _dangling(path: Path, secret: Path) -> None:
    path.unlink()
    path.symlink_to(secret.parent / "made-by-the-proxy")


def _unreadable(path: Path, _: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


TAMPERED: dict[str, Callable[[Path, Path], None]] = {
    "link": _link,
    "hard link": _hard_link,
    "pipe": _pipe,
    "directory": _directory,
    "swapped": _swapped,
    "replaced": _replaced,
    "linked directory": _linked_directory,
    "dangling link": _dangling,
    "device": _unreadable,
}
WORST = ("link", "swapped", "linked directory")
AT_ONCE = ("device", "hard link", "link", "linked directory", "pipe")
"""What is noticed without hashing again: it is no regular file, or has another size."""


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file that the proxy could read, outside of the cache; after the test it is as it was."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    yield path
    assert path.read_bytes() == SECRET
    assert not (tmp_path / "made-by-the-proxy").exists()


def target_of(image: Image, kind: str) -> tuple[str, str, bytes]:
    """Digest, target and bytes of a blob or of a manifest."""
    digest, data = layer_of(image)
    return (digest, blob(digest), data) if kind == "blob" else (image.digest, manifest(image.digest), image.manifest)


@pytest.mark.parametrize(("kind", "how"), [*(("blob", how) for how in TAMPERED), *(("manifest", how) for how in WORST)])
async def test_after_a_restart_it_is_not_served(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, secret: Path, kind: str, how: str
) -> None:
    directory = tmp_path / "cache"
    digest, target, data = target_of(image, kind)
    async with cached([plain.url], directory) as node:
        assert (await node.get(target)).body == data
    await asyncio.to_thread(TAMPERED[how], stored_file(directory, digest), secret)
    async with cached([plain.url], directory) as node:
        assert (await node.get(target)).body == data
        assert (await node.get(target, ("Range", "bytes=0-9"))).body in {data[:10], data}


@pytest.mark.parametrize("how", AT_ONCE)
async def test_while_it_runs_it_is_not_served_either(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, secret: Path, how: str
) -> None:
    directory = tmp_path / "cache"
    digest, target, data = target_of(image, "blob")
    async with cached([plain.url], directory) as node:
        assert (await node.get(target)).body == data
        await asyncio.to_thread(TAMPERED[how], stored_file(directory, digest), secret)
        for _ in range(2):
            assert (await node.get(target)).body == data


async def test_with_verify_always_swapped_bytes_are_noticed_at_once(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, secret: Path
) -> None:
    directory = tmp_path / "cache"
    digest, target, data = target_of(image, "blob")
    async with cached([plain.url], directory, cache={"verify": "always"}) as node:
        assert (await node.get(target)).body == data
        await asyncio.to_thread(_swapped, stored_file(directory, digest), secret)
        assert (await node.get(target)).body == data


@pytest.mark.parametrize("name", ["tags", "manifests", "key.json", "index.sqlite"])
@pytest.mark.parametrize("how", ["link", "rubbish"])
async def test_what_is_known_of_tags_is_read_from_files_of_ours_alone(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, secret: Path, name: str, how: str
) -> None:
    directory = tmp_path / "cache"
    async with cached([plain.url], directory) as node:
        assert (await node.get(manifest())).body == image.manifest
    await asyncio.to_thread(_spoil, directory, name, how, secret)
    async with cached([plain.url], directory) as node:
        assert (await node.get(manifest())).body == image.manifest
        assert (await node.get(manifest(image.digest))).body == image.manifest


def _spoil(directory: Path, name: str, how: str, secret: Path) -> None:
    """Put something else in the place of what is kept beside the blobs."""
    found = [path for path in directory.rglob("*") if name in {path.name, path.parent.name}]
    assert found
    for path in (path for path in found if path.is_file()):
        if how == "rubbish":
            path.write_bytes(b"\x00rubbish")
            continue
        path.unlink()
        path.symlink_to(secret) if how == "link" else os.mkfifo(path)
