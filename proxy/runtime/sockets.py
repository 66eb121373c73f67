"""The sockets that the program listens on, bound before anything else: several workers share them."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from proxy.config.model import Config

BACKLOG = 1024
"""Connections that may wait to be accepted."""


class StartError(Exception):
    """The program cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """One bound socket for each listener, in their order, and those for the operator."""

    nodes: tuple[socket.socket, ...]
    admin: socket.socket | None
    metrics: socket.socket | None
    """For metrics and health without the status page."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where nodes find us, with the ports that were got."""
        return [address_of(item) for item in self.nodes]

    def close(self) -> None:
        """Close them."""
        for item in (*self.nodes, self.admin, self.metrics):
            if item is not None:
                item.close()


def bind(config: Config) -> Sockets:
    """Bind every address of a configuration; raises StartError."""
    with ExitStack() as opened:

        def bound(address: str | None) -> socket.socket | None:
            return opened.enter_context(_bind(address)) if address is not None else None

        nodes = tuple(opened.enter_context(_bind(listener.address)) for listener in config.listeners)
        admin = bound(config.admin.address if config.admin is not None else None)
        metrics = bound(config.admin.metrics_address if config.admin is not None else None)
        opened.pop_all()
    return Sockets(nodes, admin, metrics)


def address_of(bound: socket.socket) -> str:
    """`host:port` of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(("", int(port)), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"cannot listen on {address}: {reason}") from error
