"""How much of a response a client has received, as the kernel reports it."""

import asyncio
import socket
import struct
from dataclasses import dataclass

_TCP_INFO = struct.Struct("=24x I 16x I 72x Q 16x I")
"""Of Linux' `tcp_info`: tcpi_unacked (segments), tcpi_last_data_sent (ms), tcpi_bytes_acked (since 4.1),
tcpi_notsent_bytes (since 4.6)."""


@dataclass(frozen=True, slots=True)
class ClientProgress:
    """How much a client has received, while more is unsent or unacknowledged."""

    total: int
    """Acknowledged bytes since it connected."""
    quiet: float
    """Seconds since data was last sent to it."""


def progress_of(raw: asyncio.Transport | None, transport: asyncio.Transport | None) -> ClientProgress | None:
    """The progress of a client; None if nothing is unsent or unacknowledged, or if the kernel does not report it.

    `raw` is the transport of the socket; `transport` is the one above it with TLS.
    """
    connection: socket.socket | None = raw.get_extra_info("socket") if raw is not None else None
    if raw is None or connection is None:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # already closed
        return None
    if len(info) < _TCP_INFO.size:  # an older kernel
        return None
    unacked, quiet, total, unsent = _TCP_INFO.unpack(info)
    buffered = raw.get_write_buffer_size() or (transport is not None and transport.get_write_buffer_size())
    return ClientProgress(total, quiet / 1000) if unacked or unsent or buffered else None
