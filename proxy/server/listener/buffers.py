"""Bytes that wait in the system for one client: how many may (few, on the same machine), and how many it takes."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

LOCAL_BUFFER = 256 * 1024
"""Bytes that the system holds for a client on the same machine (Linux doubles it for its own use, and has a limit too).

Left to itself Linux lets 4 MiB wait for each. The processor that sends them is the one that receives them: what fits
into its caches costs a third less CPU time (1 to 4 clients on a blob of 64 MiB, measured). Many clients on one machine
pay for it with more wake-ups; across a network the caches decide nothing, and a long way needs large buffers.
"""

_TCP_INFO = struct.Struct("=24x I 16x I 72x Q 16x I")
"""Of Linux' `tcp_info`: tcpi_unacked (segments), tcpi_last_data_sent (ms), tcpi_bytes_acked (since 4.1),
tcpi_notsent_bytes (since 4.6)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a client has taken of that which was sent to it, while more of it waits."""

    total: int
    """Bytes since it connected."""
    quiet: float
    """Seconds for which it has let nothing be sent."""


def bound_send_buffer(transport: asyncio.BaseTransport) -> None:
    """Let little wait for a client on this machine; all others keep what the system finds right."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and _is_local(transport.get_extra_info("peername")):
        with contextlib.suppress(OSError):  # it is gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER)


def taken_by(raw: asyncio.Transport | None, transport: asyncio.Transport | None) -> Taken | None:
    """What a client's system has taken; None where nothing waits for it, or nobody can tell.

    `raw` is the transport of the socket, `transport` the one above it where there is TLS.
    """
    connection: socket.socket | None = raw.get_extra_info("socket") if raw is not None else None
    if raw is None or connection is None:
        return None
    try:
        found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # it is gone already
        return None
    if len(found) < _TCP_INFO.size:  # an older system
        return None
    unacked, quiet, total, unsent = _TCP_INFO.unpack(found)
    buffered = raw.get_write_buffer_size() or (transport is not None and transport.get_write_buffer_size())
    return Taken(total, quiet / 1000) if unacked or unsent or buffered else None


def _is_local(peer: object) -> bool:
    """Whether it is a loopback address, also one of IPv4 as IPv6 writes it."""
    if not isinstance(peer, tuple):
        return False
    address: IPv4Address | IPv6Address = ip_address(peer[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
