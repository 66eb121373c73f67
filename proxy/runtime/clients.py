"""Builds what tells who pulls from a listener."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.config.listener import Clients
from proxy.config.positions import KeyPath
from proxy.routing.table import RouteTable
from proxy.server.app import RawHandler
from proxy.server.clients import ClientCheck, Everybody


@dataclass(frozen=True, slots=True)
class ListenerClients:
    """How clients of a listener are known, and what answers them besides, by the path that it is for."""

    check: ClientCheck
    extra: Mapping[str, RawHandler] = field(default_factory=dict)


def clients_path(number: int) -> KeyPath:
    """Where the `clients` section of a listener stands."""
    return ("listeners", number, "clients")


def build_clients(clients: Clients, routes: RouteTable, path: KeyPath) -> ListenerClients:
    """What the `clients` section of a listener asks for; reads files, so it blocks. Raises SettingError."""
    if clients.auth == ("none",):
        return ListenerClients(Everybody())
    from proxy.runtime import logins  # noqa: PLC0415 - it loads libraries that a listener for everybody does not need

    if not clients.asks_upstream:
        return ListenerClients(logins.known_clients(clients, path))
    if clients.challenge == "basic":
        return ListenerClients(logins.own_passwords(clients))
    return ListenerClients(*logins.own_tokens(clients, routes, path))
