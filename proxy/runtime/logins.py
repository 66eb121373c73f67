"""Clients that tell who they are: users, certificates, credentials of their own.

Imported where a listener asks for any: the libraries of passwords and tokens take several MiB.
"""

from collections.abc import Callable
from typing import TypeVar

from proxy.auth.htpasswd import Htpasswd
from proxy.auth.key_file import KeyFile
from proxy.config.listener import Clients
from proxy.routing.table import RouteTable
from proxy.server.own_credentials import OwnPasswords, OwnTokens
from proxy.server.token import TOKEN_PATH, TokenEndpoint
from proxy.server.token_handler import TokenHandler
from proxy.server.users import Certificates, KnownClients, Passwords, Way

_Opened = TypeVar("_Opened")


def known_clients(clients: Clients, setting: str) -> KnownClients:
    """Users of a file, certificates, or either; reads files, so it blocks. Raises ValueError."""
    ways: list[Way] = []
    if "certificate" in clients.auth:
        ways.append(Certificates(clients.subjects))
    if "basic" in clients.auth:
        users = _opened(clients.htpasswd_file, Htpasswd.open, f"{setting}.htpasswdFile", "basic")
        ways.append(Passwords(users))
    return KnownClients(tuple(ways), takes_passwords="basic" in clients.auth)


def own_passwords(clients: Clients) -> OwnPasswords:
    """Clients whose own password comes with each request."""
    return OwnPasswords(clients)


def own_tokens(clients: Clients, routes: RouteTable, setting: str) -> tuple[OwnTokens, dict[str, TokenHandler]]:
    """Clients with tokens of ours, and what hands these out, by its path; blocks. Raises ValueError."""
    keys = _opened(clients.token_key_file, KeyFile.open, f"{setting}.tokenKeyFile", "challenge: bearer")
    endpoint = TokenEndpoint(routes, keys, clients)
    return OwnTokens(clients, routes, keys, endpoint), {TOKEN_PATH: TokenHandler(endpoint)}


def _opened(file: str | None, opening: Callable[[str], _Opened], setting: str, needed_by: str) -> _Opened:
    """What a setting's file holds; raises ValueError that names the setting."""
    if file is None:
        raise ValueError(f"{setting} is missing: {needed_by} needs it")
    try:
        return opening(file)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None
