"""Credentials of `config.json` and `.dockerconfigjson` files, the entry with the longest matching path first."""

import asyncio
import base64
import fnmatch
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.auth.credentials.helper import HelperSource
from proxy.auth.credentials.source import CredentialError, is_text
from proxy.config.address import Origin
from proxy.config.file_state import FileState, state_in
from proxy.oci.login import Login, LoginKind

FILE_LIMIT = 1024 * 1024
"""Largest configuration file in bytes."""
TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
HUB_HOSTS = frozenset({"registry-1.docker.io", "index.docker.io", "docker.io"})


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    path: str
    login: Login

    def matches(self, origin: Origin, repository: str) -> bool:
        """Whether it is for the host, and its path for the repository, by whole segments."""
        below = not self.path or repository == self.path or repository.startswith(f"{self.path}/")
        return below and _host_matches(self.host, origin)


@dataclass(frozen=True, slots=True)
class _Contents:
    stamp: FileState
    entries: tuple[_Entry, ...]
    helpers: Mapping[str, str]
    store: str | None


@dataclass(slots=True)
class DockerConfigSource:
    """One file; read again when it changes (Kubernetes swaps a link below it)."""

    path: Path
    helpers: HelperSource
    _contents: _Contents | None = field(default=None, repr=False)

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """The entries for a repository, longest path first, then what the file's helpers know."""
        contents = self._contents = await asyncio.to_thread(_read, self.path, self._contents)
        matching = [entry for entry in contents.entries if entry.matches(origin, repository)]
        found = [entry.login for entry in sorted(matching, key=lambda entry: -len(entry.path))]
        helper = next((name for host, name in contents.helpers.items() if _host_matches(host, origin)), contents.store)
        return [*found, *(await self.helpers.ask(helper, origin))] if helper else found


def _read(path: Path, known: _Contents | None) -> _Contents:
    try:
        status = os.stat(path)  # noqa: PTH116 - one call gives all
        if not stat.S_ISREG(status.st_mode):
            raise CredentialError(f"{path} is no regular file")  # to read a pipe might never end
        stamp = state_in(status)
        if known is not None and known.stamp == stamp:
            return known
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a zero byte in it
        raise CredentialError(f"{str(path)!r} is no file name") from None
    if len(content) > FILE_LIMIT:
        raise CredentialError(f"{path} is larger than {FILE_LIMIT} bytes")
    return _parse(path, content, stamp)


def _parse(path: Path, content: bytes, stamp: FileState) -> _Contents:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise CredentialError(f"{path} is not JSON") from None
    auths = data.get("auths", {}) if isinstance(data, dict) else None
    if not isinstance(auths, dict):
        raise CredentialError(f"{path} has no object `auths`")
    entries = tuple(
        _Entry(*_split_key(key), login)
        for key, value in auths.items()
        if isinstance(value, dict) and (login := _login(path, key, value)) is not None
    )
    helpers = data.get("credHelpers")
    named = {_split_key(host)[0]: _text(helpers, host) for host in helpers} if isinstance(helpers, dict) else {}
    return _Contents(stamp, entries, named, _text(data, "credsStore") or None)


def _split_key(key: str) -> tuple[str, str]:
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    path = path.strip("/")
    return host.lower(), "" if path in ("v1", "v2") else path


def _host_matches(host: str, origin: Origin) -> bool:
    """Whether a key names the host; `*` stands for one label, as in the kubelet."""
    authority = origin.authority
    if host in (authority, f"{origin.authority_host}:{origin.port}") or (host in HUB_HOSTS and authority in HUB_HOSTS):
        return True
    labels, parts = host.split("."), authority.split(".")
    return "*" in host and len(labels) == len(parts) and all(map(fnmatch.fnmatchcase, parts, labels))


def _login(path: Path, key: str, value: Mapping[str, Any]) -> Login | None:
    name = f"{path} auths[{key}]"
    if token := _text(value, "identitytoken"):
        return Login(name, LoginKind.IDENTITY_TOKEN, TOKEN_USER, token)
    username, password = _text(value, "username"), _text(value, "password")
    if encoded := _text(value, "auth"):
        try:
            username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # not base64, not ASCII, or not UTF-8 inside
            raise CredentialError(f"{name}: auth is not base64 of user:password") from None
        password = password.rstrip("\0")
    return Login(name, LoginKind.PASSWORD, username, password) if username and password else None


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if is_text(found) else ""
