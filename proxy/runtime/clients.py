"""Builds the client authentication of a listener."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.config.errors import KeyPath
from proxy.config.listener import Clients, Listener
from proxy.config.load import Loaded
from proxy.routing.table import RouteTable
from proxy.runtime.client_files import ClientFiles
from proxy.server.app import RawHandler
from proxy.server.clients.checks import ClientCheck, Everybody
from proxy.server.record import DecidingSetting, ListenerSettings


@dataclass(frozen=True, slots=True)
class ListenerClients:
    """How a listener identifies its clients, and its further handlers (`/token`) by path."""

    check: ClientCheck
    extra: Mapping[str, RawHandler] = field(default_factory=dict)


def clients_path(number: int) -> KeyPath:
    """The key path of the `clients` section of a listener."""
    return ("listeners", number, "clients")


def deciding_settings(loaded: Loaded, listener: Listener, path: KeyPath) -> ListenerSettings:
    """The settings that the access log names for requests which they deny; `path` is that of `clients`."""
    methods = ", ".join(listener.clients.auth)
    return ListenerSettings(
        DecidingSetting(f"clients of {listener.address}: {methods}", loaded.positions.at(*path)),
        DecidingSetting("registries", loaded.positions.at("registries")),
    )


def build_clients(
    clients: Clients, routes: RouteTable, path: KeyPath, files: ClientFiles | None = None
) -> ListenerClients:
    """Build the authentication for the `clients` section of a listener; reads files, so it blocks. Raises SettingError.

    Without `files` it is a trial: the files are read once, and no client is served.
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
