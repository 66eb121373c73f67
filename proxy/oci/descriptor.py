"""Media types of manifests, and telling a manifest from a blob by its bytes."""

import json
from collections.abc import Mapping
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

_CONTENTS = frozenset({"schemaVersion", "mediaType", "config", "layers", "blobs", "manifests"})
_DESCRIPTOR = frozenset({"digest", "urls", "mediaType"})
_NOT_DISTRIBUTED = ("nondistributable", ".foreign.")
_NAMES = ("mediaType", "schemaVersion", "fsLayers")
_LONGEST_NUMBER = 20

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys((OCI_MANIFEST, DOCKER_MANIFEST), (("config", "layers"), ())),
    **dict.fromkeys(INDEX_TYPES, ((), ("manifests",))),
    OCI_ARTIFACT: (("blobs",), ()),
}
"""By media type: the fields that hold blobs, and those that hold manifests."""
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


@dataclass(frozen=True, slots=True)
class Contents:
    """The digests of the blobs that a manifest holds, and of the manifests that an index lists."""

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()


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


def contents_of(content: bytes) -> Contents:
    """What a manifest holds, by the fields that its media type defines; any other content holds nothing.

    Not its subject, and no layer that is stored elsewhere (`urls`, non-distributable types): registries accept any
    digest there. Nothing either where two readers could differ in what the manifest says: a key that stands twice in
    any object (Go merges the two, Python keeps the last), or keys of the manifest or of a descriptor that differ by
    case only (Go reads both as the same field).
    """
    try:
        media_type = manifest_type(content, None)
        fields = _json_object(content, refuse_doubles=True) or {}
    except (UpstreamInvalid, RecursionError):
        return Contents()
    layers, lists = _FIELDS.get(media_type, ((), ()))
    blobs = [item for name in layers for item in _descriptors(fields.get(name))]
    manifests = [item for name in lists for item in _descriptors(fields.get(name))]
    if not _is_plain(fields, _CONTENTS) or not all(_is_plain(item, _DESCRIPTOR) for item in (*blobs, *manifests)):
        return Contents()
    return Contents(_digests(blobs), _digests(manifests))


def _is_plain(fields: dict[str, Any], names: frozenset[str]) -> bool:
    """Whether no two keys differ by case only, and each of the names is written as it should be."""
    folded = {name.casefold() for name in names}
    return len({key.casefold() for key in fields}) == len(fields) and all(
        key in names or key.casefold() not in folded for key in fields
    )


def _is_stored_elsewhere(descriptor: dict[str, Any]) -> bool:
    """Whether the registry need not hold a layer, by its `urls` or by its type."""
    media_type = str(descriptor.get("mediaType")).lower()
    return bool(descriptor.get("urls")) or any(part in media_type for part in _NOT_DISTRIBUTED)


def _descriptors(value: object) -> list[dict[str, Any]]:
    """The descriptors of a field that holds one of them or a list."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict)]


def _digests(descriptors: list[dict[str, Any]]) -> tuple[Digest, ...]:
    found = (_digest(item.get("digest")) for item in descriptors if not _is_stored_elsewhere(item))
    return tuple(digest for digest in found if digest is not None)


def _digest(text: object) -> Digest | None:
    try:
        return Digest.parse(text) if isinstance(text, str) else None
    except DigestInvalid:
        return None


def _json_object(content: bytes, *, refuse_doubles: bool = False) -> dict[str, Any] | None:
    """The object that the bytes are in JSON, as Go decodes it: UTF-8, with U+FFFD for what is not.

    None for anything else, and with `refuse_doubles` for an object with a key that stands twice, at any depth.
    """
    if not content.lstrip(b" \t\r\n").startswith(b"{"):
        return None
    try:
        fields = json.loads(
            content.decode("utf-8", "replace"),
            parse_int=_number,
            object_pairs_hook=_single_keys if refuse_doubles else None,
        )
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members; raises ValueError where a key stands twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


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
