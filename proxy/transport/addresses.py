"""Addresses of servers: looked up, and judged where the configuration does not name the server."""

import asyncio
import functools
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUPS_LIMIT = 64
"""Names that are looked up at one time; further ones fail at once."""

_Key = tuple[str, int, socket.AddressFamily]


class TooManyLookups(OSError):
    """The name was not looked up: that is a limit of this program."""


class NameLookups(AbstractResolver):
    """The system's resolver; several that want the same name share its lookup."""

    def __init__(self, limit: int = LOOKUPS_LIMIT) -> None:
        self._limit = limit
        self._threads = ThreadPoolExecutor(limit, "names")
        self._running: dict[_Key, asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host; raises OSError where it has none, and TooManyLookups."""
        key = (host, port, family)
        lookup = self._running.get(key)
        if lookup is None:
            if len(self._running) >= self._limit:
                raise TooManyLookups("too many names are looked up")
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, *key)
            self._running[key] = lookup
            lookup.add_done_callback(functools.partial(self._ended, key))
        return await asyncio.shield(lookup)

    async def close(self) -> None:
        """Let the threads end; those that hang are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, key: _Key, lookup: asyncio.Future[list[ResolveResult]]) -> None:
        del self._running[key]
        if not lookup.cancelled():
            lookup.exception()  # seen: nobody may be waiting


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    """What the system knows; blocks."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=proto, flags=flags)
        for kind, _, proto, _, address in socket.getaddrinfo(
            host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
    ]


NAMED_LOOKUPS = 16
"""Names that are looked up at one time because one upstream has named them: those of others have threads left."""

_METADATA = frozenset(
    {
        "169.254.169.254",
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle
    }
)
_CARRIER_GRADE = ipaddress.ip_network("100.64.0.0/10")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Network(StrEnum):
    """The kind of network that an address belongs to."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    FORBIDDEN = "link-local, metadata or reserved"


class AddressRefused(OSError):
    """A server that the configuration does not name has an address where it may not be."""


def network_of(address: str) -> Network:
    """The kind of network of an IP address; an IPv4 address inside an IPv6 one counts as itself."""
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    if str(ip) in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return Network.FORBIDDEN
    if ip.is_loopback:
        return Network.LOOPBACK
    if ip.is_reserved or getattr(ip, "is_site_local", False):
        return Network.FORBIDDEN
    if ip.is_private or (ip.version == 4 and ip in _CARRIER_GRADE):  # noqa: PLR2004 - IPv4
        return Network.PRIVATE
    return Network.PUBLIC if ip.is_global else Network.FORBIDDEN


def _embedded(ip: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def literal_address(host: str) -> str | None:
    """The IP address that a host name is by itself, in any form that a resolver would take (`0x7f.1`, `2130706433`)."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def is_allowed(found: Network, upstream: frozenset[Network]) -> bool:
    """Whether a server on one kind of network may be named by an upstream on some others."""
    if found is Network.PRIVATE:
        return bool(upstream & {Network.PRIVATE, Network.LOOPBACK})
    return found is Network.PUBLIC or (found is Network.LOOPBACK and Network.LOOPBACK in upstream)


class JudgingResolver(AbstractResolver):
    """Resolves names and refuses those with any address on a network where the server may not be."""

    def __init__(self, upstream: frozenset[Network], lookups: AbstractResolver) -> None:
        self._upstream = upstream
        self._lookups = lookups
        self._running = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host, all judged; raises AddressRefused."""
        if self._running >= NAMED_LOOKUPS:
            raise TooManyLookups("too many names are looked up for this upstream")
        self._running += 1
        try:
            results = await self._lookups.resolve(host, port, family)
        finally:
            self._running -= 1
        for result in results:
            judge(host, result["host"], self._upstream)
        return results

    async def close(self) -> None:
        """Nothing is held."""


def judge(host: str, address: str, upstream: frozenset[Network]) -> None:
    """Refuse an address on a network where the server may not be; raises AddressRefused."""
    found = network_of(address)
    if not is_allowed(found, upstream):
        raise AddressRefused(f"{host} is on a {found} network ({address})")
