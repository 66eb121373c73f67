"""What a client takes of that which was sent to it, as the system sees it."""

import asyncio
import socket
import struct
from dataclasses import dataclass

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
