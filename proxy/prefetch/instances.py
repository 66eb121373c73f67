"""The running proxies that images are pulled through: found by name, and waited for until they respond."""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp

from proxy.config.address import Origin
from proxy.nodes.probe import is_ours
from proxy.prefetch.listener import ListenerAddress, listener_session

INSTANCES_LIMIT = 256
PAUSE = 1.0
"""Seconds between two attempts to find the instances."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a host name; empty where it has none."""


@dataclass(frozen=True, slots=True)
class WantedListeners:
    """Which listeners to pull through: the origin, at each address of `name`, or as it is where `name` is None."""

    origin: Origin
    name: str | None = None
    count: int = 1
    """The fewest addresses that `name` must have."""


class NotReady(Exception):
    """The proxies do not respond in time; the message has the last reason."""


async def addresses_of(name: str) -> list[str]:
    """The addresses of a host name, in their order; empty where it has none."""
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted(
        {str(address[0]) for *_, address in addresses}, key=lambda text: ipaddress.ip_address(text.split("%")[0])
    )


async def ready_listeners(
    wanted: WantedListeners, tls: ssl.SSLContext, seconds: float, lookup: Lookup = addresses_of
) -> list[ListenerAddress]:
    """The listeners to pull through, once all of them respond; raises NotReady after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        addresses = [None] if wanted.name is None else list(await lookup(wanted.name))[:INSTANCES_LIMIT]
        listeners = [ListenerAddress(wanted.origin, address) for address in addresses]
        problem = f"{wanted.name} has {len(listeners)} of {wanted.count} addresses"
        if len(listeners) >= wanted.count:
            problems = [await _problem(each, tls) for each in listeners]
            problem = next((text for text in problems if text is not None), "")
            if not problem:
                return listeners
        if time.monotonic() >= deadline:
            raise NotReady(f"{problem}, after {seconds:g} s")
        await asyncio.sleep(PAUSE)


async def _problem(listener: ListenerAddress, tls: ssl.SSLContext) -> str | None:
    """Why the listener cannot be used; None where a scope-proxy responds."""
    try:
        async with (
            listener_session(listener, tls, 1) as session,
            session.get(f"{listener.origin}/v2/", allow_redirects=False) as response,
        ):
            if is_ours(response.status, response.headers.get("Server")):
                return None
            return f"{listener}: something that is not scope-proxy responds"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{listener}: {str(error) or type(error).__name__}"
