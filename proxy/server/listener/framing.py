"""What is no proper request: refused with our own words, which repeat nothing of what was sent."""

import functools
import re
from typing import ClassVar

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from proxy.oci.errors import NameInvalid

TARGET_LIMIT = 7 * 1024
"""Bytes of a request's target."""
FIELD_LIMIT = 8 * 1024
"""Bytes of one header, name and value. Not `TARGET_LIMIT`: the parser tells no more of what was too long than this."""
HEADERS_LIMIT = 128
"""Headers of one request."""
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head that are read before it ends, from a client that pulls."""
HOSTS_REMEMBERED = 128
"""Host headers, of `FIELD_LIMIT` bytes at the most, that are remembered as good or bad."""

_HOST = re.compile(r"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_TOO_MANY = "Too many headers"


class Malformed(NameInvalid):
    """What is no proper request: its connection is closed after the answer."""


class TargetTooLong(Malformed):
    """The request's target is longer than any that a pull has."""

    status: ClassVar[int] = 414


class HeadersTooLarge(Malformed):
    """The request's headers are more, or longer, than those of any client."""

    status: ClassVar[int] = 431


class BodyTooLarge(Malformed):
    """The request's body is longer than what is taken."""

    status: ClassVar[int] = 413


class VersionUnsupported(Malformed):
    """The request is of a version of HTTP that is not spoken here."""

    status: ClassVar[int] = 505


class NodeRequest(web.BaseRequest):
    """A request of a client; the answer is never written in another version of HTTP than 1.0 or 1.1."""

    client = ""
    """Whom it counts for, by the address of the connection; see `proxy/transport/limits.py`."""
    is_spoken = True
    """Whether the client's version is one that we speak."""
    has_body = False
    """Whether bytes may follow the head that are no request of their own; refused upgrades are treated alike."""
    cut_for = ""
    """Why we have cut the connection while this was being answered."""


def check_framing(request: NodeRequest) -> None:
    """Refuse what servers in front of us may have read in another way; raises Malformed.

    RFC 9112, sections 2.3, 3.2 and 3.2.2; whole URLs are for forward proxies, which this is not.
    """
    if not request.is_spoken:
        raise VersionUnsupported("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if request.method in ("GET", "HEAD") and not request.raw_path.startswith("/"):
        raise Malformed("the request is one for a forward proxy: scope-proxy is a registry")
    if not _is_host(request.headers.get(hdrs.HOST, "")):
        raise Malformed("the Host header holds no host")


@functools.lru_cache(HOSTS_REMEMBERED)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def error_of(error: BaseException) -> Malformed:
    """What the parser refused, without a byte of it."""
    if isinstance(error, LineTooLong):
        if TARGET_LIMIT in error.args:
            return TargetTooLong(f"the request's target is longer than {TARGET_LIMIT} bytes")
        return HeadersTooLarge(f"a header of the request is longer than {FIELD_LIMIT} bytes")
    if _TOO_MANY in str(error):
        return HeadersTooLarge(f"the request has more than {HEADERS_LIMIT} headers")
    if isinstance(error, BadHttpMethod):
        return Malformed("this is no HTTP request: is the client set to https, and this address to http?")
    return Malformed("the request is not proper HTTP/1.1")
