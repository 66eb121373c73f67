"""Builds what tells who pulls from a listener."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.config.errors import KeyPath
from proxy.config.listener import Clients
from proxy.routing.table import RouteTable
from proxy.runtime.client_files import ClientFiles
from proxy.server.app import RawHandler
from proxy.server.clients.checks import ClientCheck, Everybody


@dataclass(frozen=True, slots=True)
class ListenerClients:
    """How clients of a listener are known, and what answers them besides, by the path that it is for."""

    check: ClientCheck
    extra: Mapping[str, RawHandler] = field(default_factory=dict)


def clients_path(number: int) -> KeyPath:
    """Where the `clients` section of a listener stands."""
    return ("listeners", number, "clients")


def build_clients(
    clients: Clients, routes: RouteTable, path: KeyPath, files: ClientFiles | None = None
) -> ListenerClients:
    """What the `clients` section of a listener asks for; reads files, so it blocks. Raises SettingError.

    Without `files` it is a trial: files are opened and nobody is served by them.
    """
    if clients.auth == ("none",):
        return ListenerClients(Everybody())
    from proxy.runtime import logins  # noqa: PLC0415 - it loads libraries that a listener for everybody does not need

    files = files or ClientFiles(is_trial=True)
    if not clients.asks_upstream:
        return ListenerClients(logins.known_clients(clients, path, files))
    if clients.challenge == "basic":
        return ListenerClients(logins.own_passwords(clients))
    return ListenerClients(*logins.own_tokens(clients, routes, path, files))
