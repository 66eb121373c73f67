"""Builds what tells who pulls from a listener."""

from dataclasses import dataclass

from proxy.auth.htpasswd import Htpasswd
from proxy.auth.key_file import KeyFile
from proxy.config.listener import Clients
from proxy.routing.table import RouteTable
from proxy.server.clients import ClientCheck, Everybody
from proxy.server.own_credentials import OwnPasswords, OwnTokens
from proxy.server.token import TokenEndpoint
from proxy.server.users import Certificates, KnownClients, Passwords, Way


@dataclass(frozen=True, slots=True)
class ListenerClients:
    """How clients of a listener are known, and where they get tokens, if they do."""

    check: ClientCheck
    tokens: TokenEndpoint | None = None


def build_clients(clients: Clients, routes: RouteTable, setting: str) -> ListenerClients:
    """What the `clients` section of a listener asks for; reads files, so it blocks. Raises ValueError."""
    if clients.auth == ("none",):
        return ListenerClients(Everybody())
    if not clients.asks_upstream:
        return ListenerClients(_known(clients, setting))
    if clients.challenge == "basic":
        return ListenerClients(OwnPasswords(clients))
    keys = _opened_keys(clients, setting)
    endpoint = TokenEndpoint(routes, keys, clients)
    return ListenerClients(OwnTokens(clients, routes, keys, endpoint), endpoint)


def _known(clients: Clients, setting: str) -> KnownClients:
    ways: list[Way] = []
    if "certificate" in clients.auth:
        ways.append(Certificates(clients.subjects))
    if "basic" in clients.auth:
        ways.append(Passwords(_opened_users(clients, setting)))
    return KnownClients(tuple(ways), takes_passwords="basic" in clients.auth)


def _opened_users(clients: Clients, setting: str) -> Htpasswd:
    if clients.htpasswd_file is None:
        raise ValueError(f"{setting}.htpasswdFile is missing: basic needs it")
    try:
        return Htpasswd.open(clients.htpasswd_file)
    except ValueError as error:
        raise ValueError(f"{setting}.htpasswdFile: {error}") from None


def _opened_keys(clients: Clients, setting: str) -> KeyFile:
    if clients.token_key_file is None:
        raise ValueError(f"{setting}.tokenKeyFile is missing: challenge: bearer needs it")
    try:
        return KeyFile.open(clients.token_key_file)
    except ValueError as error:
        raise ValueError(f"{setting}.tokenKeyFile: {error}") from None
