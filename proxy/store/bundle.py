"""A bundle: images in an OCI image layout, in one tar, with an index of their names.

Written as skopeo (`oci-archive:`), crane and containerd read it; read as they and Docker write it. The OCI names are
`org.opencontainers.image.ref.name`, which some tools reduce to the tag, and containerd's `io.containerd.image.name`.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tarfile import PAX_FORMAT, TarInfo
from typing import Any

from proxy.oci.descriptor import MANIFEST_LIMIT, MANIFEST_TYPES, OCI_INDEX, Descriptor, ParsedManifest, json_object
from proxy.oci.descriptor import parse_manifest as parse
from proxy.oci.errors import DigestInvalid
from proxy.oci.reference import Digest
from proxy.store.files import open_regular
from proxy.store.tar_entries import BLOCK, BundleError, TarEntry, tar_entries

IMAGES_LIMIT = 10_000
"""Most images of a bundle."""
CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"

_LAYOUT, _INDEX = "oci-layout", "index.json"
_VERSION = "1.0.0"
_LAYOUT_LIMIT = 4096
_END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class NamedManifest:
    """A manifest that the index of a bundle lists, and the name of its image; empty where it has none."""

    name: str
    manifest: Descriptor


class BundleReader:
    """An open bundle. Nothing that it returns is verified, manifests excepted. Blocking."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._entries = self._indexed()
        self.images = self._listed()

    def size(self, digest: Digest) -> int | None:
        """Bytes of a digest's file; None where the bundle has none."""
        entry = self._entries.get(blob_name(digest))
        return None if entry is None else entry.size

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a digest's file; raises BundleError."""
        entry = self._entries[blob_name(digest)]
        return self._pread(entry.offset + offset, max(min(length, entry.size - offset), 0))

    def manifest(self, listed: Descriptor) -> tuple[bytes, ParsedManifest]:
        """A manifest, verified, and what it holds; raises BundleError."""
        content = self._whole(blob_name(listed.digest), MANIFEST_LIMIT)
        if Digest.of(content, listed.digest.algorithm) != listed.digest:
            raise BundleError(f"the bytes of manifest {listed.digest} have another digest: the bundle is damaged")
        parsed = parse(content)
        if parsed.contents.problem:
            raise BundleError(f"manifest {listed.digest} cannot be used: {parsed.contents.problem}")
        if parsed.own_type != listed.media_type:
            raise BundleError(f"manifest {listed.digest} is {parsed.own_type}, and is listed as {listed.media_type}")
        return content, parsed

    def _indexed(self) -> dict[str, TarEntry]:
        entries: dict[str, TarEntry] = {}
        for entry in tar_entries(self._pread, os.fstat(self._descriptor).st_size):
            if entry.name in entries:
                raise BundleError(f"{entry.name!r} is in it twice")
            entries[entry.name] = entry
        return entries

    def _listed(self) -> tuple[NamedManifest, ...]:
        for name in (_LAYOUT, _INDEX):
            if name not in self._entries:
                raise BundleError(f"it has no {name}: an OCI image layout is required, as 'skopeo copy' writes it")
        layout = _object(self._whole(_LAYOUT, _LAYOUT_LIMIT), _LAYOUT)
        if layout.get("imageLayoutVersion") != _VERSION:
            raise BundleError(f"its oci-layout is not of version {_VERSION}")
        content = self._whole(_INDEX, MANIFEST_LIMIT)
        parsed, fields = parse(content), _object(content, _INDEX)
        if parsed.own_type != OCI_INDEX or parsed.contents.problem:
            raise BundleError(f"its index.json cannot be used: {parsed.contents.problem or 'it is not an OCI index'}")
        listed = fields.get("manifests") or ()
        if len(listed) > IMAGES_LIMIT:
            raise BundleError(f"it has more than {IMAGES_LIMIT} images")
        return tuple(map(_named, listed))

    def _whole(self, name: str, limit: int) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise BundleError(f"{name} is missing")
        if entry.size > limit:
            raise BundleError(f"{name} has {entry.size} bytes; at most {limit} are read")
        return self._pread(entry.offset, entry.size)

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            content = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise BundleError(f"it cannot be read: {error.strerror}") from None
        return content


@contextmanager
def opened_bundle(path: Path) -> Iterator[BundleReader]:
    """Open a bundle for reading; raises BundleError."""
    try:
        descriptor = open_regular(path)
    except OSError as error:
        raise BundleError(f"it cannot be read: {error.strerror}") from None
    if descriptor is None:
        raise BundleError("there is no such file, or it is not a regular file (a symbolic link is not followed)")
    try:
        yield BundleReader(path, descriptor)
    finally:
        os.close(descriptor)


def blob_name(digest: Digest) -> str:
    """The path of a blob in an OCI image layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def beginning(images: Iterable[NamedManifest]) -> bytes:
    """What a bundle begins with: its version and its index of names. Always the same bytes for the same images."""
    layout = json.dumps({"imageLayoutVersion": _VERSION}).encode()
    entries = [
        {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest.text,
            "size": image.manifest.size,
            "annotations": {CONTAINERD_NAME: image.name, REF_NAME: image.name},
        }
        for image in images
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, indent=2).encode()
    files = ((_LAYOUT, layout), (_INDEX, index))
    return b"".join(header(name, len(content)) + content + padding(len(content)) for name, content in files)


def header(name: str, size: int) -> bytes:
    """The tar header of a file."""
    entry = TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(PAX_FORMAT)


def padding(size: int) -> bytes:
    """What follows the bytes of a file."""
    return bytes(-size % BLOCK)


def ending() -> bytes:
    """What a tar ends with."""
    return _END


def _named(entry: object) -> NamedManifest:
    """An entry of index.json; raises BundleError."""
    if not isinstance(entry, dict):
        raise BundleError("its index.json lists something that is not a manifest")
    media_type, size, annotations = entry.get("mediaType"), entry.get("size"), entry.get("annotations")
    try:
        digest = Digest.parse(str(entry.get("digest")))
    except DigestInvalid as error:
        raise BundleError(f"its index.json has an invalid digest: {error.reason}") from None
    if not isinstance(media_type, str) or media_type not in MANIFEST_TYPES:
        raise BundleError(f"its index.json lists {digest} as {str(media_type)[:100]!r}, which is not a manifest")
    names = annotations if isinstance(annotations, dict) else {}
    name = names.get(CONTAINERD_NAME) or names.get(REF_NAME) or ""
    known = size if isinstance(size, int) and not isinstance(size, bool) else -1
    return NamedManifest(name if isinstance(name, str) else "", Descriptor(media_type, digest, known))


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        fields = json_object(content)
    except RecursionError:
        fields = None
    if fields is None:
        raise BundleError(f"its {name} is not a JSON object")
    return fields
