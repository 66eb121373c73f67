"""Following redirects by hand: credentials go to the exact origin only; requests that come back to us are noticed."""

import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from proxy.config.address import Origin
from proxy.transport.session import Outgoing, Sessions

INSTANCE: Final = f"scope-proxy-{secrets.token_hex(6)}"
"""A name for this installation of listeners; workers that are forked share it."""
VIA_LIMIT = 1024
"""Characters of Via that are sent on; who has more proxies in a row has a loop."""

RECEIVED_VIA: Final[ContextVar[str]] = ContextVar("received_via", default="")
"""What the request that is being answered has come through."""


def note_via(lines: Iterable[str]) -> bool:
    """Remember what a request has come through; whether this proxy is in it, or too much is."""
    received = ", ".join(lines)
    RECEIVED_VIA.set(received)
    return INSTANCE in received or len(received) > VIA_LIMIT


def via() -> str:
    """The Via header of a request to an upstream (RFC 9110, section 7.6.3)."""
    received = RECEIVED_VIA.get()
    return f"{received}, 1.1 {INSTANCE}" if received else f"1.1 {INSTANCE}"


REDIRECTS_LIMIT = 5
"""Most redirects of one request."""
REDIRECT_STATUSES = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)
_LOCATION_LIMIT = 8190
_SENT_ANYWHERE = frozenset({"Accept", "Range", "If-Range"})


class RedirectRefused(Exception):
    """An upstream redirects to an untrusted target; the message never holds the query of the target."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The answer at the end of the redirects, and whether it came from another origin."""

    response: aiohttp.ClientResponse
    elsewhere: bool


async def follow(sessions: Sessions, outgoing: Outgoing) -> Followed:
    """Send a request to an upstream and follow at most 5 redirects.

    No other origin is sent its credentials, nor is the upstream itself after a redirect through another one.

    Raises RedirectRefused, and what `Sessions.request` raises.
    """
    upstream, current = outgoing.origin, outgoing
    for _ in range(REDIRECTS_LIMIT + 1):
        response = await sessions.request(current)
        if response.status not in REDIRECT_STATUSES:
            return Followed(response, elsewhere=current.origin != upstream)
        location = response.headers.get("Location")
        response.release()
        url, origin = _target(sessions, current, location, upstream)
        current = replace(current, url=url, origin=origin)
        if origin != upstream:
            # For good: a server elsewhere must not choose the path that our credentials come back to.
            kept = {name: value for name, value in current.headers.items() if name in _SENT_ANYWHERE}
            current = replace(current, headers=kept, form=None, named_by=upstream, redirected=True)
    raise RedirectRefused(f"{upstream.authority} redirects more than {REDIRECTS_LIMIT} times")


def _target(sessions: Sessions, current: Outgoing, location: str | None, upstream: Origin) -> tuple[URL, Origin]:
    sender = current.origin
    if not location or len(location) > _LOCATION_LIMIT or not location.isprintable():
        raise RedirectRefused(f"{sender.authority} redirects without a usable Location")
    try:
        # The Location is kept as it was encoded: a signature covers the very characters.
        target = current.url.join(URL(location, encoded=True)).with_fragment(None)
        origin = Origin.parse(str(target))
    except ValueError as error:
        raise RedirectRefused(f"{sender.authority} redirects to a URL that cannot be used: {error}") from None
    if sender.scheme == "https" and origin.scheme == "http" and not sessions.is_listed(origin, upstream):
        raise RedirectRefused(
            f"{sender.authority} redirects from https to {origin}: to allow it, add {origin} to redirects of the host"
        )
    return target, origin
