"""Sources of credentials: Docker config files, and the `docker-credential-<name>` programs that they name."""

import asyncio
import base64
import contextlib
import fnmatch
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from cachetools import TTLCache

from proxy.config.address import Origin
from proxy.config.files import FileState, read_bounded
from proxy.oci.login import Login, LoginKind
from proxy.transport.clock import at_upstream
from proxy.transport.singleflight import Background, SingleFlight

_SURROGATE = re.compile("[\ud800-\udfff]")


class CredentialError(Exception):
    """A configured credential cannot be read: a file is missing, a helper fails. The message holds no secret."""


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be encoded: JSON can hold unpaired surrogates, which cannot."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


class CredentialSource(Protocol):
    """A source of credentials."""

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """The credentials for an upstream repository, best match first; raises CredentialError."""


TIMEOUT_SECONDS = 10.0
"""Time limit of one run of a helper."""
KILL_SECONDS = 2.0
"""How long to wait for a killed helper to exit."""
OUTPUT_LIMIT = 64 * 1024
"""Largest output of a helper in bytes."""
REMEMBER_SECONDS = 60.0
"""How long a helper's output is cached, so that not every token request starts a program."""

_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_NOT_FOUND = "credentials not found"
_HUB_URL = "https://index.docker.io/v1/"


class HelperSource:
    """Runs credential helpers; concurrent requests for one host share a run."""

    def __init__(self, background: Background, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._flights: SingleFlight[tuple[str, str], tuple[Login, ...]] = SingleFlight(background)
        self._known: TTLCache[tuple[str, str], tuple[Login, ...]] = TTLCache(1024, REMEMBER_SECONDS)

    async def logins(self, helper: str, origin: Origin) -> Sequence[Login]:
        """A helper's credentials for a host; empty if it has none. Raises CredentialError."""
        server = _HUB_URL if origin.host == "registry-1.docker.io" else origin.authority
        key = (helper, server)
        known: tuple[Login, ...] | None = self._known.get(key)
        if known is None:
            known = self._known[key] = await self._flights.run(key, lambda: _run(helper, server, self._timeout))
        return known


async def _run(helper: str, server: str, seconds: float) -> tuple[Login, ...]:
    if not _NAME.fullmatch(helper):
        raise CredentialError(f"{helper[:100]!r} is not a valid name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it may contain secrets
            limit=OUTPUT_LIMIT,
            start_new_session=True,  # so that it can be killed with its child processes
        )
    except OSError as error:
        raise CredentialError(f"cannot run {program}: {error.strerror}") from None
    try:
        with at_upstream():  # most helpers send requests to a remote service
            async with asyncio.timeout(seconds):
                output = await _exchange(process, server)
    except TimeoutError:
        raise CredentialError(f"{program} did not respond within {seconds:.0f} seconds") from None
    finally:
        if process.returncode is None or (process.stdout is not None and not process.stdout.at_eof()):
            await _kill(process)
    return _parse_output(program, server, output, process.returncode)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill a helper and its child processes: a child that keeps the pipe open would block the read."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await process.communicate()  # reads the pipe to its end


async def _exchange(process: asyncio.subprocess.Process, server: str) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the helper was started without pipes")
    process.stdin.write(server.encode())
    process.stdin.close()
    output = b""
    while len(output) <= OUTPUT_LIMIT and (chunk := await process.stdout.read(OUTPUT_LIMIT)):
        output += chunk
    if len(output) > OUTPUT_LIMIT:
        raise CredentialError(f"the credential helper printed more than {OUTPUT_LIMIT} bytes")
    await process.wait()
    return output


def _parse_output(program: str, server: str, output: bytes, status: int | None) -> tuple[Login, ...]:
    if status != 0:
        if _NOT_FOUND in output.decode(errors="replace").lower():
            return ()
        raise CredentialError(f"{program} failed for {server} with exit status {status}")
    try:
        printed = json.loads(output)
        username, secret = printed["Username"], printed["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CredentialError(f"{program} gave no Username and Secret for {server}") from None
    if not is_text(username) or not is_text(secret) or not secret:
        raise CredentialError(f"{program} gave no Username and Secret for {server}")
    kind = LoginKind.IDENTITY_TOKEN if username == _TOKEN_USER else LoginKind.PASSWORD
    return (Login(f"{program} for {server}", kind, username, secret),)


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
        """Whether its host matches, and its path is a prefix of the repository, by whole segments."""
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
    """A Docker config file; read again when it changes (Kubernetes swaps a symbolic link in its path)."""

    path: Path
    helpers: HelperSource
    size_limit: int = FILE_LIMIT
    _contents: _Contents | None = field(default=None, repr=False)

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """The entries for a repository, longest path first, then the credentials of the file's helper."""
        contents = self._contents = await asyncio.to_thread(_read, self.path, self._contents, self.size_limit)
        matching = [entry for entry in contents.entries if entry.matches(origin, repository)]
        found = [entry.login for entry in sorted(matching, key=lambda entry: -len(entry.path))]
        helper = next((name for host, name in contents.helpers.items() if _host_matches(host, origin)), contents.store)
        return [*found, *(await self.helpers.logins(helper, origin))] if helper else found


def _read(path: Path, known: _Contents | None, limit: int) -> _Contents:
    try:
        content, stamp = read_bounded(path, limit, known.stamp if known else None)
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # it holds a zero byte
        raise CredentialError(f"{str(path)!r} is an invalid file name") from None
    if content is None and known is not None:
        return known
    if content is None or len(content) > limit:
        raise CredentialError(f"{path} is larger than {limit} bytes")
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
    """Whether a key matches the host; `*` matches one label, as in the kubelet."""
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
