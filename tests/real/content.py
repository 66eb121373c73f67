"""Blobs, layers and manifests built in memory; the same bytes in every run."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with their media type."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """The sha256 of the bytes."""
        return digest_of(self.data)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Layer:
    """A packed tar and the digest of the tar itself, which the image's configuration names."""

    blob: Blob
    diff_id: str


def digest_of(data: bytes) -> str:
    """The digest as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(blob: Blob, **more: object) -> dict[str, object]:
    """The descriptor of a blob or manifest, with further fields (`platform`, ...)."""
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size, **more}


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return noise_stream(seed)(size)


def noise_stream(seed: str) -> Callable[[int], bytes]:
    """A function that gives the next bytes of the seed's endless stream."""
    key = hashlib.sha256(seed.encode()).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return lambda size: encryptor.update(bytes(size))


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files with no times or owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            archive.addfile(tar_entry(name, len(data)), io.BytesIO(data))
    return buffer.getvalue()


def tar_entry(name: str, size: int) -> tarfile.TarInfo:
    """The header of a regular file."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry


def gzip_layer(files: Mapping[str, bytes], media_type: str = f"{OCI_LAYER}+gzip") -> Layer:
    """A layer packed with gzip."""
    tar = tar_of(files)
    return Layer(Blob(media_type, gzip.compress(tar, mtime=0)), digest_of(tar))


def zstd_layer(files: Mapping[str, bytes]) -> Layer:
    """A layer packed with zstd."""
    tar = tar_of(files)
    return Layer(Blob(f"{OCI_LAYER}+zstd", zstandard.ZstdCompressor().compress(tar)), digest_of(tar))


def config_of(diff_ids: Iterable[str], *, architecture: str = "amd64", media_type: str = OCI_CONFIG) -> Blob:
    """The configuration of an image with these layers."""
    body = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    return json_blob(media_type, body)


def json_blob(media_type: str, body: Mapping[str, object]) -> Blob:
    """A JSON document as a blob."""
    return Blob(media_type, json.dumps(body, separators=(",", ":")).encode())
