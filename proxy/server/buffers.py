"""How many bytes may wait in the system for one client: few for a client on the same machine."""

import asyncio
import contextlib
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

LOCAL_BUFFER = 256 * 1024
"""Bytes that the system holds for a client on the same machine (Linux doubles it for its own use, and has a limit too).

Left to itself Linux lets 4 MiB wait for each. The processor that sends them is the one that receives them: what fits
into its caches costs a third less CPU time (1 to 4 clients on a blob of 64 MiB, measured). Many clients on one machine
pay for it with more wake-ups; across a network the caches decide nothing, and a long way needs large buffers.
"""


def bound_send_buffer(transport: asyncio.BaseTransport) -> None:
    """Let little wait for a client on this machine; all others keep what the system finds right."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and _is_local(transport.get_extra_info("peername")):
        with contextlib.suppress(OSError):  # it is gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER)


def _is_local(peer: object) -> bool:
    """Whether it is a loopback address, also one of IPv4 as IPv6 writes it."""
    if not isinstance(peer, tuple):
        return False
    address: IPv4Address | IPv6Address = ip_address(peer[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
