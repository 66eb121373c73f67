"""Large bodies that are made while they are read, and images of odd sizes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from proxy.testbed.answer import PIECE, BodyContent
from proxy.testbed.images import OCI_CONFIG, Image, ImageDescriptor, make_config, make_image, make_manifest, sha256

MIB = 1024 * 1024
_LINE = 4096


@cache
def _line(seed: int) -> bytes:
    return hashlib.shake_256(seed.to_bytes(8, "big")).digest(_LINE - 8)


@dataclass(frozen=True, slots=True)
class Generated:
    """A body of any size that holds no more than a piece in memory; every 4 KiB differ, so a shift shows."""

    size: int
    seed: int = 0

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        for at in range(start, stop, PIECE):
            end = min(at + PIECE, stop)
            first = at // _LINE
            lines = (n.to_bytes(8, "big") + _line(self.seed) for n in range(first, -(-end // _LINE)))
            yield b"".join(lines)[at - first * _LINE : end - first * _LINE]


def digest_of(content: BodyContent) -> str:
    """The sha256 digest of a body, read piece by piece."""
    state = hashlib.sha256()
    for piece in content.pieces(0, content.size):
        state.update(piece)
    return f"sha256:{state.hexdigest()}"


def image_of_layers(repository: str, tag: str, *layers: ImageDescriptor) -> Image:
    """An image whose layers were added to the registry by `add_blob`; it cannot be unpacked, only pulled."""
    config = make_config("linux/amd64", [layer.digest for layer in layers])
    descriptor = ImageDescriptor(OCI_CONFIG, sha256(config), len(config))
    manifest, media_type = make_manifest(descriptor, layers)
    return Image(repository, tag, manifest, media_type, sha256(manifest), {sha256(config): config})


def image_with_manifest_of(repository: str, tag: str, size: int) -> Image:
    """An image whose manifest has exactly so many bytes."""
    bare = make_image(repository, tag, extra={"annotations": {"pad": ""}})
    pad = "x" * (size - len(bare.manifest))
    return make_image(repository, tag, extra={"annotations": {"pad": pad}})
