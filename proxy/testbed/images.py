"""Small images built in memory: always the same bytes, so the same digests, on one Python."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def _no_blobs() -> Mapping[str, bytes]:
    return MappingProxyType({})


def sha256(data: bytes) -> str:
    """The digest of some bytes, with its algorithm in front."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class ImageDescriptor:
    """Media type, digest and size of a manifest or blob."""

    media_type: str
    digest: str
    size: int

    def json(self) -> dict[str, Any]:
        """The descriptor as manifests write it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest (or an index with its platforms) and every blob that it names."""

    repository: str
    tag: str  # empty for a platform of an index and for an artifact found by its subject
    manifest: bytes = field(repr=False)
    media_type: str
    digest: str
    blobs: Mapping[str, bytes] = field(default_factory=_no_blobs, repr=False)
    platforms: tuple["Image", ...] = field(default=(), repr=False)
    platform: str = "linux/amd64"

    def descriptor(self) -> ImageDescriptor:
        """What an index or a tag would say of this image."""
        return ImageDescriptor(self.media_type, self.digest, len(self.manifest))


def make_layer(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """A gzipped tar of the files, and the digest of the tar before compression."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0), sha256(plain.getvalue())


def make_config(platform: str, diff_ids: Iterable[str]) -> bytes:
    """The image configuration that containerd needs to unpack the layers."""
    system, _, architecture = platform.partition("/")
    return _json(
        {
            "architecture": architecture,
            "os": system,
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
    )


def make_manifest(
    config: ImageDescriptor,
    layers: Iterable[ImageDescriptor],
    *,
    docker: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> tuple[bytes, str]:
    """The bytes and the media type of an image manifest; `extra` adds keys such as `subject` or `annotations`."""
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.json(),
        "layers": [layer.json() for layer in layers],
        **(extra or {}),
    }
    return _json(document), media_type


def make_image(
    repository: str,
    tag: str,
    files: Mapping[str, bytes] | None = None,
    *,
    platform: str = "linux/amd64",
    docker: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Image:
    """An image of one layer with the files given; without files, one that names its repository."""
    content = files if files is not None else {"hello": f"hello from {repository}:{tag} on {platform}\n".encode()}
    layer, diff_id = make_layer(content)
    config = make_config(platform, [diff_id])
    manifest, media_type = make_manifest(
        ImageDescriptor(DOCKER_CONFIG if docker else OCI_CONFIG, sha256(config), len(config)),
        [ImageDescriptor(DOCKER_LAYER if docker else OCI_LAYER, sha256(layer), len(layer))],
        docker=docker,
        extra=extra,
    )
    blobs = MappingProxyType({sha256(config): config, sha256(layer): layer})
    return Image(repository, tag, manifest, media_type, sha256(manifest), blobs, platform=platform)


def make_index(repository: str, tag: str, platforms: Iterable[str] = ("linux/amd64", "linux/arm64")) -> Image:
    """An index with one small image per platform."""
    children = tuple(make_image(repository, "", platform=platform) for platform in platforms)
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [child.descriptor().json() | {"platform": _platform(child.platform)} for child in children],
        }
    )
    return Image(repository, tag, index, OCI_INDEX, sha256(index), platforms=children)


def make_artifact(subject: Image, artifact_type: str) -> Image:
    """A manifest that refers to another one, as a signature or a bill of materials does."""
    extra = {"artifactType": artifact_type, "subject": subject.descriptor().json()}
    return make_image(subject.repository, "", {"artifact": artifact_type.encode()}, extra=extra)


def demo_images() -> tuple[Image, ...]:
    """The images of the reported case (OCI and Docker types) and one for several platforms."""
    return (
        make_image("se-next-gen-docker-local/mini-test", "1"),
        make_image("se-next-gen-docker-local/operator", "2.7.0", docker=True),
        make_index("hmirror/rabbitmqoperator/cluster-operator", "2.7.0"),
    )


def _platform(name: str) -> dict[str, str]:
    system, _, architecture = name.partition("/")
    return {"architecture": architecture, "os": system}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
