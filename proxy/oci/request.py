"""A node's request, parsed once: the operation and the repository."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from proxy.oci.errors import NameInvalid, Unsupported
from proxy.oci.reference import Digest, Tag, parse_tag_or_digest

PATH_LIMIT = 1024
"""Longest path of a request in characters."""
QUERY_LIMIT = 2048
"""Longest query in characters, names and values together."""
NAMESPACE = "ns"

_CONTENT = re.compile(r"(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<reference>[^/]+)")
_TAGS = re.compile(r"(?P<name>.+)/tags/list")
_UPLOADS = re.compile(r".+/blobs/uploads(?:/.*)?")
_CATALOG = "_catalog"
_PRINTABLE = re.compile(r"[ -~]*")


class Operation(StrEnum):
    """The operations of the API that a pull needs."""

    PING = "ping"
    MANIFEST = "manifest"
    BLOB = "blob"
    TAGS = "tags"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """One request under `/v2/`; `name` is the repository as requested, before the registry is known."""

    operation: Operation
    head: bool
    name: str = ""
    reference: Tag | Digest | None = None
    namespace: str | None = None
    query: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> Digest:
        """The requested digest; raises TypeError if the request names none."""
        if not isinstance(self.reference, Digest):
            raise TypeError("this request names no digest")
        return self.reference

    @property
    def suffix(self) -> str:
        """What follows the repository in the path."""
        return "tags/list" if self.operation is Operation.TAGS else f"{_PATH_SEGMENTS[self.operation]}/{self.reference}"


_PATH_SEGMENTS = {Operation.MANIFEST: "manifests", Operation.BLOB: "blobs", Operation.REFERRERS: "referrers"}


def parse_request(method: str, raw_path: str, query: Iterable[tuple[str, str]]) -> RegistryRequest:
    """Parse a request; raises Unsupported if it is not a pull, NameInvalid or DigestInvalid if it is malformed.

    `raw_path` is the path as sent; only this function decodes its percent-encoding, once.
    """
    if method not in ("GET", "HEAD"):
        raise Unsupported(f"{method} is not supported: scope-proxy only serves pulls")
    path = _decode(raw_path)
    namespace, rest = _split_query(query)
    head = method == "HEAD"
    if path in ("/v2", "/v2/"):
        return RegistryRequest(Operation.PING, head)
    if not path.startswith("/v2/"):
        raise NameInvalid("only paths under /v2/ are served here")
    operation, name, reference = _split_path(path.removeprefix("/v2/"))
    return RegistryRequest(operation, head, name, reference, namespace, rest)


def _decode(raw_path: str) -> str:
    if len(raw_path) > PATH_LIMIT:
        raise NameInvalid(f"the path is longer than {PATH_LIMIT} characters")
    path = unquote(raw_path, errors="strict") if "%" in raw_path and _valid_utf8(raw_path) else raw_path
    if not _PRINTABLE.fullmatch(path) or "%" in path:
        raise NameInvalid("the path has characters that are not valid in a repository, tag or digest")
    return path


def _valid_utf8(raw_path: str) -> bool:
    try:
        unquote(raw_path, errors="strict")
    except UnicodeDecodeError:
        raise NameInvalid("the path is not valid UTF-8") from None
    return True


def _split_path(path: str) -> tuple[Operation, str, Tag | Digest | None]:
    if path == _CATALOG:
        raise Unsupported("the catalog is not supported: scope-proxy only serves pulls by name")
    if _UPLOADS.fullmatch(path):
        raise Unsupported("uploads are not supported: scope-proxy only serves pulls")
    if match := _TAGS.fullmatch(path):
        return Operation.TAGS, match["name"], None
    if (match := _CONTENT.fullmatch(path)) is None:
        raise NameInvalid("the path is not part of the distribution API")
    if match["kind"] == "manifests":
        return Operation.MANIFEST, match["name"], parse_tag_or_digest(match["reference"])
    operation = Operation.BLOB if match["kind"] == "blobs" else Operation.REFERRERS
    return operation, match["name"], Digest.parse(match["reference"])


def _split_query(query: Iterable[tuple[str, str]]) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    pairs = tuple(query)
    text = "".join(name + value for name, value in pairs)
    if len(text) > QUERY_LIMIT or not _PRINTABLE.fullmatch(text):
        raise NameInvalid(f"the query is longer than {QUERY_LIMIT} characters or not plain ASCII")
    namespaces = [value for name, value in pairs if name == NAMESPACE]
    if len(namespaces) > 1:
        raise NameInvalid("ns= is given more than once")
    rest = tuple(pair for pair in pairs if pair[0] != NAMESPACE)
    return (namespaces[0] if namespaces else None), rest
