"""Bundles as other tools, and attackers, write them."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from proxy.testbed.images import Image, sha256

INDEX = "application/vnd.oci.image.index.v1+json"
CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


def blob_path(digest: str) -> str:
    """Where an OCI image layout has a blob."""
    return "blobs/" + digest.replace(":", "/")


def listed(content: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """An entry of an index."""
    entry: dict[str, Any] = {"mediaType": media_type, "digest": sha256(content), "size": len(content)}
    return {**entry, "annotations": dict(annotations)} if annotations else entry


def layout(*images: tuple[Image, Mapping[str, str]]) -> dict[str, bytes]:
    """The files of an OCI image layout with these images under these annotations."""
    files: dict[str, bytes] = {}
    for image, _ in images:
        for each in (image, *image.platforms):
            files |= {blob_path(each.digest): each.manifest}
            files |= {blob_path(digest): content for digest, content in each.blobs.items()}
    entries = [listed(image.manifest, image.media_type, annotations) for image, annotations in images]
    return {**indexed(entries), **files}


def indexed(entries: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """`oci-layout` and `index.json`."""
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar of these files."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read_tar(path: Path) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]
