"""Client authentication with passwords, certificates or the clients' own upstream credentials.

Imported only for listeners that need it: the libraries for passwords and tokens take several MiB.
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

_Reader = TypeVar("_Reader")


def known_clients(clients: Clients, path: KeyPath, files: ClientFiles) -> KnownClients:
    """Authentication by htpasswd file, certificate, or either; reads files, so it blocks. Raises SettingError."""
    methods: list[LoginMethod] = []
    if "certificate" in clients.auth:
        methods.append(Certificates(clients.subjects))
    if "basic" in clients.auth:
        opening = partial(files.open, "htpasswdFile", opening=partial(Htpasswd.open, times=files.times))
        users = _open_file(clients.htpasswd_file, opening, (*path, "htpasswdFile"), "basic")
        methods.append(Passwords(users))
    return KnownClients(tuple(methods), accepts_passwords="basic" in clients.auth)


def own_passwords(clients: Clients) -> OwnPasswords:
    """Authentication by the client's own upstream password, sent with each request."""
    return OwnPasswords(clients)


def own_tokens(
    clients: Clients, routes: RouteTable, path: KeyPath, files: ClientFiles
) -> tuple[OwnTokens, dict[str, TokenHandler]]:
    """Authentication by tokens that scope-proxy issues, and the handler that issues them, by path; blocks.

    Raises SettingError.
    """
    opening = partial(files.open, "tokenKeyFile", opening=partial(KeyFile.open, times=files.times))
    keys = _open_file(clients.token_key_file, opening, (*path, "tokenKeyFile"), "challenge: bearer")
    endpoint = TokenEndpoint(routes, keys, clients)
    return OwnTokens(clients, routes, keys, endpoint), {TOKEN_PATH: TokenHandler(endpoint)}


def _open_file(file: str | None, opening: Callable[[str], _Reader], path: KeyPath, needed_by: str) -> _Reader:
    """The object that reads a setting's file; raises SettingError."""
    if file is None:
        raise SettingError(path, f"missing: {needed_by} requires it")
    try:
        return opening(file)
    except ValueError as error:
        raise SettingError(path, str(error)) from None
