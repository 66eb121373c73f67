"""Clients that tell who they are: users, certificates, credentials of their own.

Imported where a listener asks for any: the libraries of passwords and tokens take several MiB.
"""

from proxy.auth.htpasswd import Htpasswd
from proxy.auth.key_file import KeyFile
from proxy.config.listener import Clients
from proxy.routing.table import RouteTable
from proxy.server.own_credentials import OwnPasswords, OwnTokens
from proxy.server.token import TOKEN_PATH, TokenEndpoint
from proxy.server.token_handler import TokenHandler
from proxy.server.users import Certificates, KnownClients, Passwords, Way


def known_clients(clients: Clients, setting: str) -> KnownClients:
    """Users of a file, certificates, or either; reads files, so it blocks. Raises ValueError."""
    ways: list[Way] = []
    if "certificate" in clients.auth:
        ways.append(Certificates(clients.subjects))
    if "basic" in clients.auth:
        ways.append(Passwords(_opened_users(clients, setting)))
    return KnownClients(tuple(ways), takes_passwords="basic" in clients.auth)


def own_passwords(clients: Clients) -> OwnPasswords:
    """Clients whose own password comes with each request."""
    return OwnPasswords(clients)


def own_tokens(clients: Clients, routes: RouteTable, setting: str) -> tuple[OwnTokens, dict[str, TokenHandler]]:
    """Clients with tokens of ours, and what hands these out, by its path; blocks. Raises ValueError."""
    keys = _opened_keys(clients, setting)
    endpoint = TokenEndpoint(routes, keys, clients)
    return OwnTokens(clients, routes, keys, endpoint), {TOKEN_PATH: TokenHandler(endpoint)}


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
