"""Media types of manifests, and telling a manifest from a blob by its bytes."""

import json
from dataclasses import dataclass
from typing import Any

from proxy.oci.errors import DigestInvalid, UpstreamInvalid
from proxy.oci.reference import Digest

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Largest manifest in bytes, as in distribution and containerd."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
BLOB = "application/octet-stream"

_LISTS = ("layers", "blobs", "manifests")
_CONTENTS = frozenset({"config", *_LISTS})
_DESCRIPTOR = frozenset({"digest", "urls", "mediaType"})
_FOREIGN = ("nondistributable", ".foreign.")
_NAMES = ("mediaType", "schemaVersion", "fsLayers")
_LONGEST_NUMBER = 20

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT}) | INDEX_TYPES
SCHEMA1_TYPES = frozenset({SCHEMA1, SCHEMA1_SIGNED})
ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}, {OCI_ARTIFACT}"
"""What we can pass on, for clients that do not say what they accept."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of some content."""

    media_type: str
    digest: Digest
    size: int


def media_type_of(content_type: str | None) -> str:
    """The media type of a Content-Type header, without parameters, in lower case."""
    return (content_type or "").split(";", 1)[0].strip().lower()


def is_manifest(content: bytes) -> bool:
    """Whether these bytes are a manifest or an index of any kind: such a digest is never served as a blob."""
    try:
        fields = _json_object(content)
    except RecursionError:
        return True  # no honest blob is nested so deep, and a manifest could be
    if fields is None:
        return False
    # containerd, being Go, reads `SchemaVersion` as well.
    fields = {name.lower(): value for name, value in fields.items()}
    fields = {**fields, **{name: fields[name.lower()] for name in _NAMES if name.lower() in fields}}
    return _declared_type(fields) is not None or _shape(fields) is not None


def manifest_type(content: bytes, content_type: str | None) -> str:
    """The media type of a manifest: what its bytes declare, else the header, else its shape.

    The bytes are covered by the digest and the header is not, so they win. Raises UpstreamInvalid for what is no
    manifest, for one that is both an image and an index (CVE-2021-41190), and for schema 1.
    """
    header = media_type_of(content_type)
    try:
        fields = _json_object(content)
    except RecursionError:
        fields = None
    if fields is None:
        raise UpstreamInvalid(f"the upstream sent no manifest: not a JSON object, Content-Type {header or 'missing'}")
    if header in SCHEMA1_TYPES or "fsLayers" in fields:
        raise UpstreamInvalid("the manifest is of schema 1, which is not supported: push the image again")
    if "manifests" in fields and ("layers" in fields or "config" in fields):
        raise UpstreamInvalid("the manifest is both an image and an index")
    found = _declared_type(fields) or (header if header in MANIFEST_TYPES else None) or _shape(fields)
    if found is None:
        raise UpstreamInvalid(f"the upstream sent JSON that is no manifest, Content-Type {header or 'missing'}")
    return found


def named_digests(content: bytes) -> tuple[Digest, ...]:
    """The digests that a manifest names and its registry holds: config, layers, blobs, or the manifests of an index.

    Not its subject, and no layer that is to be had elsewhere: registries take any digest for those, so they prove
    nothing. Where a name is written in another case, nothing is taken: registries in Go read both, and the last wins.
    """
    try:
        fields = _json_object(content) or {}
    except RecursionError:
        return ()
    if not _is_plain(fields, _CONTENTS):
        return ()
    listed = [fields.get("config"), *(item for key in _LISTS for item in _list(fields.get(key)))]
    held = (
        item for item in listed if isinstance(item, dict) and _is_plain(item, _DESCRIPTOR) and not _is_foreign(item)
    )
    return tuple(digest for item in held if (digest := _digest(item.get("digest"))) is not None)


def _is_plain(fields: dict[str, Any], names: frozenset[str]) -> bool:
    """Whether each of the names is written as it should be wherever it is meant."""
    folded = {name.casefold() for name in names}
    return all(name in names or name.casefold() not in folded for name in fields)


def _is_foreign(descriptor: dict[str, Any]) -> bool:
    """Whether a layer is to be had elsewhere, by its `urls` or by its type."""
    media_type = str(descriptor.get("mediaType"))
    return bool(descriptor.get("urls")) or any(part in media_type for part in _FOREIGN)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _digest(text: object) -> Digest | None:
    try:
        return Digest.parse(text) if isinstance(text, str) else None
    except DigestInvalid:
        return None


def _json_object(content: bytes) -> dict[str, Any] | None:
    if not content.lstrip(b" \t\r\n").startswith(b"{"):
        return None
    try:
        fields = json.loads(content, parse_int=_number)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _number(digits: str) -> int:
    """A number; one that is too long for Python to read must not make a manifest pass for something else."""
    return int(digits) if len(digits) <= _LONGEST_NUMBER else 0


def _declared_type(fields: dict[str, Any]) -> str | None:
    declared = fields.get("mediaType")
    return declared if isinstance(declared, str) and declared in MANIFEST_TYPES | SCHEMA1_TYPES else None


def _shape(fields: dict[str, Any]) -> str | None:
    """The type of a manifest that does not declare one: OCI left the field out at first."""
    if fields.get("schemaVersion") == 1 and "fsLayers" in fields:
        return SCHEMA1_SIGNED
    if fields.get("schemaVersion") != 2:  # noqa: PLR2004 - the one version there is
        return None
    if isinstance(fields.get("manifests"), list):
        return OCI_INDEX
    if isinstance(fields.get("config"), dict) and isinstance(fields.get("layers"), list):
        return OCI_MANIFEST
    return None
