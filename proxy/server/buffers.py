"""How many bytes may wait in the system for one client: few for a client that is near."""

import asyncio
import socket
import struct

NEAR = 500
"""Microseconds of round-trip time up to which a client is near: in the same rack, on the same node."""
NEAR_BUFFER = 256 * 1024
"""Bytes that the system holds for a near client (Linux doubles it for its own use, and has a limit of its own).

Enough for 4 Gbit/s and more at such a distance. Left to itself Linux lets 4 MiB wait for each, which have left the
processor's caches when they are sent: measured, that is a third more CPU time for each byte.
"""
_RTT = struct.Struct("=68xI")
"""Where `struct tcp_info` (linux/tcp.h) holds the smoothed round-trip time, in microseconds."""


def bound_send_buffer(transport: asyncio.BaseTransport) -> None:
    """Let little wait for a client that is near; who is far needs as much as the system finds right."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        (microseconds,) = _RTT.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT.size))
        if 0 < microseconds <= NEAR:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_BUFFER)
    except (OSError, struct.error):
        return  # it is gone already, or the system does not tell
