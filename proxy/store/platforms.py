"""The platforms of an image, and for which of them all content is stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.oci.descriptor import INDEX_TYPES, index_entries, json_object, parse_manifest
from proxy.oci.errors import DigestInvalid
from proxy.oci.reference import Digest

UNKNOWN = "unknown"
"""The platform of an image that does not say."""
_NO_IMAGE = f"{UNKNOWN}/{UNKNOWN}"
"""What the manifests of attestations declare."""


@dataclass(frozen=True, slots=True)
class Platforms:
    """Names as `os/architecture[/variant]`."""

    complete: tuple[str, ...] = ()
    """Those whose manifest and blobs are all stored."""
    incomplete: tuple[str, ...] = ()
    """Those of which some content is stored, or of the only manifest of the image."""


def platforms_of(
    digest: Digest, read: Callable[[Digest], bytes | None], sizes: Mapping[Digest, int | None], limit: int
) -> Platforms:
    """The platforms of the image with this digest; `sizes` has None for what is not stored.

    Platforms of an index of which no manifest is stored are left out: no node has pulled them. So are those beyond
    `limit` bytes of manifests.
    """
    body = read(digest)
    parsed = parse_manifest(body or b"")
    complete: list[str] = []
    incomplete: list[str] = []
    if parsed.own_type not in INDEX_TYPES:
        name = _declared(parsed.contents.blobs[0].digest, read) if parsed.contents.blobs else UNKNOWN
        (complete if body is not None and _has_all(parsed.contents.blobs, sizes) else incomplete).append(name)
        return Platforms(tuple(complete), tuple(incomplete))
    states: dict[Digest, bool | None] = {}  # an index may name one manifest any number of times
    for entry in index_entries(body or b""):
        held, name = _digest(entry), _name(entry.get("platform"))
        if held is None or name == _NO_IMAGE:
            continue
        if held not in states:
            content = read(held) if limit > 0 else None
            limit -= len(content or b"")
            states[held] = None if content is None else _has_all(parse_manifest(content).contents.blobs, sizes)
        is_whole = states[held]
        if is_whole is not None:
            (complete if is_whole else incomplete).append(name)
    return Platforms(tuple(dict.fromkeys(complete)), tuple(dict.fromkeys(incomplete)))


def _has_all(blobs: Any, sizes: Mapping[Digest, int | None]) -> bool:
    return all(sizes.get(blob.digest) is not None for blob in blobs)


def _declared(config: Digest, read: Callable[[Digest], bytes | None]) -> str:
    """The platform in the configuration of an image."""
    try:
        return _name(json_object(read(config) or b""))
    except RecursionError:
        return UNKNOWN


def _digest(entry: Mapping[str, Any]) -> Digest | None:
    try:
        return Digest.parse(str(entry.get("digest")))
    except DigestInvalid:
        return None


def _name(platform: object) -> str:
    """`os/architecture[/variant]`; what is not a short plain word is left out."""
    if not isinstance(platform, dict):
        return UNKNOWN
    parts = [platform.get(field) for field in ("os", "architecture", "variant")]
    words = [part for part in parts if isinstance(part, str) and part.isascii() and part.isprintable()]
    return "/".join(word[:32] for word in words if word) or UNKNOWN
