"""Malformed requests: refused with error texts that quote nothing of the request."""

import functools
import re
from typing import ClassVar

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from proxy.oci.errors import NameInvalid

TARGET_LIMIT = 7 * 1024
"""Bytes of a request's target."""
FIELD_LIMIT = 8 * 1024
"""Bytes of one header, name and value. Differs from `TARGET_LIMIT`: the parser reports only the exceeded limit."""
HEADERS_LIMIT = 128
"""Headers of one request."""
HEAD_LIMIT = 64 * 1024
"""Maximum bytes of a request head on a listener."""
HOSTS_CACHED = 128
"""Host headers (at most `FIELD_LIMIT` bytes each) whose validity is cached."""

_HOST = re.compile(r"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_TOO_MANY = "Too many headers"


class Malformed(NameInvalid):
    """The request is malformed: its connection is closed after the response."""


class TargetTooLong(Malformed):
    """The request target is longer than that of any pull."""

    status: ClassVar[int] = 414


class HeadersTooLarge(Malformed):
    """The request has too many headers, or one that is too long."""

    status: ClassVar[int] = 431


class BodyTooLarge(Malformed):
    """The request body exceeds the limit."""

    status: ClassVar[int] = 413


class VersionUnsupported(Malformed):
    """The HTTP version of the request is not supported."""

    status: ClassVar[int] = 505


class NodeRequest(web.BaseRequest):
    """A request of a client; the response is always HTTP/1.0 or HTTP/1.1."""

    client = ""
    """The client for limits, derived from the address; see `proxy/transport/limits.py`."""
    is_supported = True
    """Whether the HTTP version is supported."""
    has_body = False
    """Whether bytes other than a new request may follow the head; true for refused upgrades too."""
    cut_for = ""
    """Why scope-proxy cut the connection during this request."""


def check_framing(request: NodeRequest) -> None:
    """Refuse a request that another server may parse differently; raises Malformed.

    RFC 9112, sections 2.3, 3.2 and 3.2.2; absolute URLs are for forward proxies.
    """
    if not request.is_supported:
        raise VersionUnsupported("only HTTP/1.1 and HTTP/1.0 are supported")
    if request.method in ("GET", "HEAD") and not request.raw_path.startswith("/"):
        raise Malformed("scope-proxy is not a forward proxy: configure it as a registry mirror")
    if not _is_host(request.headers.get(hdrs.HOST, "")):
        raise Malformed("the Host header is not a valid host")


@functools.lru_cache(HOSTS_CACHED)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def error_of(error: BaseException) -> Malformed:
    """The error for what the parser refused, without quoting it."""
    if isinstance(error, LineTooLong):
        if TARGET_LIMIT in error.args:
            return TargetTooLong(f"the request target is longer than {TARGET_LIMIT} bytes")
        return HeadersTooLarge(f"a request header is longer than {FIELD_LIMIT} bytes")
    if _TOO_MANY in str(error):
        return HeadersTooLarge(f"the request has more than {HEADERS_LIMIT} headers")
    if isinstance(error, BadHttpMethod):
        return Malformed("not an HTTP request: the client may use https, but this address serves http")
    return Malformed("the request is not valid HTTP/1.1")
