"""Media types of manifests, and detection of manifests by their bytes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
"""By media type: the fields that list blobs, and those that list manifests."""
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT}) | INDEX_TYPES
SCHEMA1_TYPES = frozenset({SCHEMA1, SCHEMA1_SIGNED})
ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}, {OCI_ARTIFACT}"
"""The Accept header for clients that send none: all media types that scope-proxy can serve."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of a blob or manifest."""

    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The blobs that a manifest lists, and the manifests that an index lists."""

    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    problem: str = field(default="", compare=False)
    """Why both lists are empty, for people; "" if the manifest could be read."""


def media_type_of(content_type: str | None) -> str:
    """The media type of a Content-Type header, without parameters, in lower case."""
    return (content_type or "").split(";", 1)[0].strip().lower()


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """The result of parsing bytes as a manifest."""

    is_manifest: bool
    """Whether the bytes are a manifest or an index of any kind: such a digest is never served as a blob."""
    declared: str | None = None
    """The media type that the bytes declare, if it is a manifest type."""
    shape: str | None = None
    """The media type by the fields: early OCI manifests have no `mediaType`."""
    contents: Contents = Contents()
    """What the manifest lists in the fields that its media type defines; empty for any other content.

    Excludes its subject and layers that are stored elsewhere (`urls`, non-distributable types): registries accept any
    digest there. Also empty if two parsers could read the manifest differently: an object has a duplicate key (Go
    merges the values, Python keeps the last), or keys of the manifest or of a descriptor differ only in case (Go reads
    both as the same field).
    """
    _is_object: bool = False
    _is_schema1: bool = False
    _is_ambiguous: bool = False

    @property
    def own_type(self) -> str | None:
        """The media type by the bytes alone; None if they are not a manifest that scope-proxy serves."""
        is_served = self._is_object and not (self._is_schema1 or self._is_ambiguous)
        return (self.declared or self.shape) if is_served else None

    def media_type(self, content_type: str | None) -> str:
        """The media type: the declared one, else that of the header, else that of the shape.

        The bytes take precedence because the digest covers them and not the header. Raises UpstreamInvalid for content
        that is not a manifest, is both an image and an index (CVE-2021-41190), or is of schema 1.
        """
        header = media_type_of(content_type)
        reported = header or "missing"
        if not self._is_object:
            raise UpstreamInvalid(f"the upstream sent no manifest: not a JSON object, Content-Type {reported}")
        if header in SCHEMA1_TYPES or self._is_schema1:
            raise UpstreamInvalid("the manifest is of schema 1, which is not supported: push the image again")
        if self._is_ambiguous:
            raise UpstreamInvalid("the manifest is both an image and an index")
        found = self.declared or (header if header in MANIFEST_TYPES else None) or self.shape
        if found is None:
            raise UpstreamInvalid(f"the upstream sent JSON that is not a manifest, Content-Type {reported}")
        return found


def parse_manifest(content: bytes) -> ParsedManifest:
    """Parse bytes that may be a manifest; raises nothing. A few megabytes take some tenths of a second."""
    try:
        document = _decoded(content)
    except RecursionError:  # treated as a manifest: no ordinary blob is nested so deeply
        return ParsedManifest(is_manifest=True, contents=Contents(problem="it is nested too deeply"))
    if document is None:
        return ParsedManifest(is_manifest=False, contents=Contents(problem="it is not a JSON object"))
    fields, has_doubles = document
    # Like all Go programs, containerd matches keys without regard to case and reads `SchemaVersion` too.
    folded = {name.casefold(): value for name, value in fields.items()}
    as_go = {**folded, **{name: folded[name.casefold()] for name in _NAMES if name.casefold() in folded}}
    parsed = ParsedManifest(
        is_manifest=_declared_type(as_go) is not None or _shape(as_go) is not None,
        declared=_declared_type(fields),
        shape=_shape(fields),
        _is_object=True,
        _is_schema1="fsLayers" in fields,
        _is_ambiguous="manifests" in fields and ("layers" in fields or "config" in fields),
    )
    return replace(parsed, contents=_contents(parsed, fields, has_doubles=has_doubles))


def _contents(parsed: ParsedManifest, fields: dict[str, Any], *, has_doubles: bool) -> Contents:
    try:
        media_type = parsed.media_type(None)
    except UpstreamInvalid as error:
        return Contents(problem=error.reason)
    if has_doubles:
        return Contents(problem="an object in it has a duplicate key")
    if fields.get("mediaType") not in (None, "", media_type):
        return Contents(problem="its media type is unknown")
    if not _is_plain(fields, _CONTENTS):
        return Contents(problem="its keys differ only in case, or are written in the wrong case")
    try:
        blobs, manifests = (
            tuple(item for name in names for item in _descriptors(name, fields.get(name)))
            for names in _FIELDS.get(media_type, ((), ()))
        )
    except TypeError as error:
        return Contents(problem=str(error))
    return Contents(blobs, manifests)


def _is_plain(fields: dict[str, Any], names: frozenset[str]) -> bool:
    """Whether no two keys differ only in case, and every key in `names` has exactly that case."""
    folded = {name.casefold() for name in names}
    return len({key.casefold() for key in fields}) == len(fields) and all(
        key in names or key.casefold() not in folded for key in fields
    )


def _is_stored_elsewhere(descriptor: dict[str, Any]) -> bool:
    """Whether a layer may be missing from the registry, by its `urls` or its media type."""
    media_type = str(descriptor.get("mediaType")).lower()
    return bool(descriptor.get("urls")) or any(part in media_type for part in _NOT_DISTRIBUTED)


def _descriptors(name: str, value: object) -> Iterator[Descriptor]:
    """The descriptors in a field: one in `config`, a list of them in any other field.

    Raises TypeError if the value is neither (Go rejects the whole manifest then) or is ambiguous.
    """
    items = [] if value is None else [value] if name == "config" else value
    if not isinstance(items, list):
        raise TypeError(f"{name} is not a list")
    for item in items:
        if not isinstance(item, dict) or not _is_plain(item, _DESCRIPTOR):
            raise TypeError(f"an item of {name} is not a plain descriptor")
        digest, size = _digest(item.get("digest")), item.get("size")
        if digest is not None and not _is_stored_elsewhere(item):
            size = size if isinstance(size, int) and not isinstance(size, bool) else 0
            yield Descriptor(str(item.get("mediaType")), digest, max(size, 0))


def _digest(text: object) -> Digest | None:
    try:
        return Digest.parse(text) if isinstance(text, str) else None
    except DigestInvalid:
        return None


def json_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object in these bytes, decoded as Go does; None for anything else. Raises RecursionError."""
    document = _decoded(content)
    return None if document is None else document[0]


def index_entries(index: bytes) -> list[dict[str, Any]]:
    """The JSON objects that an index lists, unchecked; none of anything else. Raises RecursionError."""
    listed = (json_object(index) or {}).get("manifests")
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _decoded(content: bytes) -> tuple[dict[str, Any], bool] | None:
    """The JSON object in these bytes, decoded as Go does (U+FFFD for invalid UTF-8), and whether it has duplicate keys.

    Keys are duplicate if any object, at any depth, has them twice. None for any other content.
    """
    if not content.lstrip(b" \t\r\n").startswith(b"{"):
        return None
    has_doubles = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_doubles
        fields = dict(pairs)
        has_doubles |= len(fields) != len(pairs)
        return fields

    try:
        fields = json.loads(content.decode("utf-8", "replace"), parse_int=_number, object_pairs_hook=members)
    except ValueError:
        return None
    return fields, has_doubles


def _number(digits: str) -> int:
    """A number; 0 if it has more digits than Python converts, which must not hide that the bytes are a manifest."""
    return int(digits) if len(digits) <= _LONGEST_NUMBER else 0


def _declared_type(fields: dict[str, Any]) -> str | None:
    declared = fields.get("mediaType")
    return declared if isinstance(declared, str) and declared in MANIFEST_TYPES | SCHEMA1_TYPES else None


def _shape(fields: dict[str, Any]) -> str | None:
    """The type of a manifest that does not declare one."""
    if fields.get("schemaVersion") == 1 and "fsLayers" in fields:
        return SCHEMA1_SIGNED
    if fields.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version
        return None
    if isinstance(fields.get("manifests"), list):
        return OCI_INDEX
    if isinstance(fields.get("config"), dict) and isinstance(fields.get("layers"), list):
        return OCI_MANIFEST
    return None
