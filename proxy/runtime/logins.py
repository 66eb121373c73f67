"""Clients that tell who they are: users, certificates, credentials of their own.

Imported where a listener asks for any: the libraries of passwords and tokens take several MiB.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from proxy.auth.inward.htpasswd import Htpasswd
from proxy.auth.inward.sealed_tokens import KeyFile
from proxy.config.errors import KeyPath, SettingError
from proxy.config.listener import Clients
from proxy.routing.table import RouteTable
from proxy.runtime.client_files import ClientFiles
from proxy.server.clients.known_clients import Certificates, KnownClients, LoginMethod, Passwords
from proxy.server.clients.own_credentials import OwnPasswords, OwnTokens
from proxy.server.clients.token_endpoint import TOKEN_PATH, TokenEndpoint, TokenHandler

_Opened = TypeVar("_Opened")


def known_clients(clients: Clients, path: KeyPath, files: ClientFiles) -> KnownClients:
    """Users of a file, certificates, or either; reads files, so it blocks. Raises SettingError."""
    ways: list[LoginMethod] = []
    if "certificate" in clients.auth:
        ways.append(Certificates(clients.subjects))
    if "basic" in clients.auth:
        opening = partial(files.open, "htpasswdFile", opening=partial(Htpasswd.open, times=files.times))
        users = _opened(clients.htpasswd_file, opening, (*path, "htpasswdFile"), "basic")
        ways.append(Passwords(users))
    return KnownClients(tuple(ways), accepts_passwords="basic" in clients.auth)


def own_passwords(clients: Clients) -> OwnPasswords:
    """Clients whose own password comes with each request."""
    return OwnPasswords(clients)


def own_tokens(
    clients: Clients, routes: RouteTable, path: KeyPath, files: ClientFiles
) -> tuple[OwnTokens, dict[str, TokenHandler]]:
    """Clients with tokens of ours, and what hands these out, by its path; blocks. Raises SettingError."""
    opening = partial(files.open, "tokenKeyFile", opening=partial(KeyFile.open, times=files.times))
    keys = _opened(clients.token_key_file, opening, (*path, "tokenKeyFile"), "challenge: bearer")
    endpoint = TokenEndpoint(routes, keys, clients)
    return OwnTokens(clients, routes, keys, endpoint), {TOKEN_PATH: TokenHandler(endpoint)}


def _opened(file: str | None, opening: Callable[[str], _Opened], path: KeyPath, needed_by: str) -> _Opened:
    """What a setting's file holds; raises SettingError."""
    if file is None:
        raise SettingError(path, f"it is missing, and {needed_by} needs it")
    try:
        return opening(file)
    except ValueError as error:
        raise SettingError(path, str(error)) from None
