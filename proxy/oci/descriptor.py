"""Media types of manifests, and telling a manifest from a blob by its bytes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    """The blobs that a manifest holds, and the manifests that an index lists."""

    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    problem: str = field(default="", compare=False)
    """Why nothing of it counts, in words; empty where all does."""


def media_type_of(content_type: str | None) -> str:
    """The media type of a Content-Type header, without parameters, in lower case."""
    return (content_type or "").split(";", 1)[0].strip().lower()


def is_manifest(content: bytes) -> bool:
    """Whether these bytes are a manifest or an index of any kind: such a digest is never served as a blob."""
    try:
        fields = json_object(content)
    except RecursionError:
        return True  # no honest blob is nested so deep, and a manifest could be
    if fields is None:
        return False
    # containerd, being Go, reads `SchemaVersion` as well.
    fields = {name.casefold(): value for name, value in fields.items()}
    fields = {**fields, **{name: fields[name.casefold()] for name in _NAMES if name.casefold() in fields}}
    return _declared_type(fields) is not None or _shape(fields) is not None


def manifest_type(content: bytes, content_type: str | None) -> str:
    """The media type of a manifest: what its bytes declare, else the header, else its shape.

    The bytes are covered by the digest and the header is not, so they win. Raises UpstreamInvalid for what is no
    manifest, for one that is both an image and an index (CVE-2021-41190), and for schema 1.
    """
    header = media_type_of(content_type)
    try:
        fields = json_object(content)
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
        fields = json_object(content, refuse_doubles=True)
    except UpstreamInvalid as error:
        return Contents(problem=error.reason)
    except RecursionError:
        return Contents(problem="it is nested too deep")
    if fields is None:
        return Contents(problem="a key stands twice in one of its objects")
    if fields.get("mediaType") not in (None, "", media_type):
        return Contents(problem="its media type is unknown")
    if not _is_plain(fields, _CONTENTS):
        return Contents(problem="keys of it differ by case only, or are written in another case")
    try:
        blobs, manifests = (
            tuple(item for name in names for item in _descriptors(name, fields.get(name)))
            for names in _FIELDS.get(media_type, ((), ()))
        )
    except TypeError as error:
        return Contents(problem=str(error))
    return Contents(blobs, manifests)


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


def _descriptors(name: str, value: object) -> Iterator[Descriptor]:
    """What a field holds: `config` a descriptor, any other one a list of them.

    Raises TypeError for what is neither, or can be read in two ways: Go refuses the whole manifest for the first.
    """
    items = [] if value is None else [value] if name == "config" else value
    if not isinstance(items, list):
        raise TypeError(f"{name} is no list")
    for item in items:
        if not isinstance(item, dict) or not _is_plain(item, _DESCRIPTOR):
            raise TypeError(f"{name} holds what is no plain descriptor")
        digest, size = _digest(item.get("digest")), item.get("size")
        if digest is not None and not _is_stored_elsewhere(item):
            known = size if isinstance(size, int) and not isinstance(size, bool) else 0
            yield Descriptor(str(item.get("mediaType")), digest, max(known, 0))


def _digest(text: object) -> Digest | None:
    try:
        return Digest.parse(text) if isinstance(text, str) else None
    except DigestInvalid:
        return None


def json_object(content: bytes, *, refuse_doubles: bool = False) -> dict[str, Any] | None:
    """The JSON object in these bytes, as Go decodes it: UTF-8, with U+FFFD for what is not.

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
