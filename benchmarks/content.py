"""What the origin serves: blobs of random bytes and one small image, as files of one directory."""

import hashlib
import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
REPOSITORY = "library/bench"
LIMITED_REPOSITORY = "limited/bench"
"""The origin limits the rate of this repository's blobs."""
TAG = "1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_LAYERS = 8
_BLOCK = MIB


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob of the origin; `size` in bytes."""

    digest: str
    size: int
    file: Path

    def path(self, repository: str = REPOSITORY) -> str:
        """Its path at a registry."""
        return f"/v2/{repository}/blobs/{self.digest}"


class Content:
    """Makes what the origin serves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count()
        self._block = os.urandom(_BLOCK)
        (directory / "blobs").mkdir(parents=True)
        (directory / "manifests").mkdir()

    def blob(self, size: int) -> Blob:
        """A new blob: no two have a block of 1 MiB in common."""
        hasher, draft = hashlib.sha256(), self.directory / "draft"
        number = next(self._numbers)
        with draft.open("wb") as file:
            for offset in range(0, size, _BLOCK):
                block = (f"{number}:{offset}:".encode() + self._block)[: min(_BLOCK, size - offset)]
                hasher.update(block)
                file.write(block)
        return self._named(draft, f"sha256:{hasher.hexdigest()}", size)

    def remove(self, blob: Blob) -> None:
        """Remove a blob: the directory may be in memory."""
        blob.file.unlink()

    def image(self) -> bytes:
        """A manifest under `TAG`, of the size that images have; its bytes."""
        layers = [_descriptor(self.blob(1024), "application/vnd.oci.image.layer.v1.tar") for _ in range(_LAYERS)]
        config = _descriptor(self.blob(1024), "application/vnd.oci.image.config.v1+json")
        shape = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
        body = json.dumps(shape, indent=2).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        for reference in (TAG, digest):
            (self.directory / "manifests" / reference).write_bytes(body)
        return body

    def clear(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory)

    def _named(self, draft: Path, digest: str, size: int) -> Blob:
        file = self.directory / "blobs" / digest
        draft.rename(file)
        return Blob(digest, size, file)


def _descriptor(blob: Blob, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "size": blob.size, "digest": blob.digest}
