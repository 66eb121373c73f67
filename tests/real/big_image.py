"""An image with a layer of 1 GiB, made while it is sent: it never stands in memory."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from tests.real import content
from tests.real.images import PROJECT
from tests.real.uploads import Uploader

REPOSITORY = f"{PROJECT}/big"
TAG = "1"
FILE_SIZE = 1024**3
CHUNK = 1024**2


@dataclass(frozen=True, slots=True)
class BigImage:
    """Where the image is and what its layer is."""

    repository: str
    tag: str
    layer_digest: str
    layer_size: int

    @property
    def reference(self) -> str:
        """`<repository>:<tag>`."""
        return f"{self.repository}:{self.tag}"


def push(uploader: Uploader) -> BigImage:
    """Make and push the image; the layer is a plain tar, so that unpacking costs no time for decompression."""
    size = tarfile.BLOCKSIZE + FILE_SIZE + 2 * tarfile.BLOCKSIZE
    digest = uploader.stream_blob(REPOSITORY, _tar(), size)
    config = content.config_of([digest])
    uploader.put_blob(REPOSITORY, config)
    layer = {"mediaType": content.OCI_LAYER, "digest": digest, "size": size}
    body = {
        "schemaVersion": 2,
        "mediaType": content.OCI_MANIFEST,
        "config": content.descriptor(config),
        "layers": [layer],
    }
    uploader.put_manifest(REPOSITORY, TAG, content.json_blob(content.OCI_MANIFEST, body))
    return BigImage(REPOSITORY, TAG, digest, size)


def _tar() -> Iterator[bytes]:
    yield content.tar_entry("big", FILE_SIZE).tobuf(tarfile.USTAR_FORMAT)
    following = content.noise_stream("big")
    for _ in range(FILE_SIZE // CHUNK):
        yield following(CHUNK)
    yield bytes(2 * tarfile.BLOCKSIZE)
