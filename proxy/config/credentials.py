"""Credentials of the configuration: selects them for a repository, and reads their secrets."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from proxy.config.address import Origin
from proxy.config.files import FileState, read_bounded
from proxy.config.model import Config, Credential
from proxy.rules.patterns import covers_repository, specificity


def credentials_for(config: Config, origin: Origin, repository: str) -> Sequence[Credential]:
    """The credentials of a host for an upstream repository, the longest `repositories` match first."""
    matching = [item for item in config.host(origin).credentials if covers_repository(item.repositories, repository)]
    return sorted(matching, key=lambda item: -specificity(item.repositories))


def credential_names(config: Config, origin: Origin, repository: str) -> Sequence[str]:
    """The names of all credentials for a repository, in the order in which they are tried."""
    return [credential_name(item) for item in credentials_for(config, origin, repository)] + [
        f"{path} (if it has an entry)" for path in config.docker_config_files
    ]


def credential_name(item: Credential) -> str:
    """A credential in logs and messages: its user or kind, and its `repositories`; never a secret."""
    if item.helper is not None:
        return f"docker-credential-{item.helper}"
    who = item.docker_config_file or item.username or "identity token"
    return who if item.repositories == "**" else f"{who} (for {item.repositories})"


MAX_SECRET_SIZE = 64 << 10
"""Maximum bytes of a secret file."""
MAX_CACHED = 4096
"""Maximum number of cached files; others are read each time."""


class SecretError(Exception):
    """A secret that cannot be read; says which setting, why and what to do, never the value."""

    def __init__(self, setting: str, message: str) -> None:
        self.setting = setting
        super().__init__(f"{setting}: {message}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret value, and the setting that it comes from."""

    value: str = field(repr=False)
    setting: str

    def __str__(self) -> str:
        """Only where it comes from."""
        return f"<{self.setting}>"


class SecretReader:
    """Reads secrets, and a file again only after it has changed; safe to call from several threads."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._files: dict[str, tuple[FileState, str]] = {}
        self._lock = threading.Lock()

    def read(self, credential: Credential) -> Secret | None:
        """The password or identity token of a credential as it is now; None for docker configs and helpers.

        Blocks for one `stat`, and for a read of at most 64 KiB after a change. Raises SecretError.
        """
        for setting, value in _inline(credential):
            if value is not None:
                return Secret(value.get_secret_value(), setting)
        for setting, path in _files(credential):
            if path is not None:
                return Secret(self._file(setting, path), setting)
        for setting, variable in _variables(credential):
            if variable is not None:
                return Secret(self._variable(setting, variable), setting)
        return None

    def _file(self, setting: str, path: str) -> str:
        with self._lock:
            known = self._files.get(path)
        try:
            data, state = read_bounded(path, MAX_SECRET_SIZE, known[0] if known else None)
        except (OSError, ValueError) as error:
            raise SecretError(setting, f"{path}: {_reason(error)}") from None
        if data is None and known is not None:
            return known[1]
        value = _decode(setting, path, data or b"")
        with self._lock:
            if len(self._files) < MAX_CACHED or path in self._files:
                self._files[path] = (state, value)
        return value

    def _variable(self, setting: str, variable: str) -> str:
        value = self._environment.get(variable)
        if not value:
            state = "is not set" if value is None else "is empty"
            raise SecretError(setting, f"the environment variable {variable} {state}")
        return value


def _inline(credential: Credential) -> tuple[tuple[str, SecretStr | None], ...]:
    return ("password", credential.password), ("identityToken", credential.identity_token)


def _files(credential: Credential) -> tuple[tuple[str, str | None], ...]:
    return ("passwordFile", credential.password_file), ("identityTokenFile", credential.identity_token_file)


def _variables(credential: Credential) -> tuple[tuple[str, str | None], ...]:
    return ("passwordEnv", credential.password_env), ("identityTokenEnv", credential.identity_token_env)


def _decode(setting: str, path: str, data: bytes) -> str:
    if len(data) > MAX_SECRET_SIZE:
        raise SecretError(setting, f"{path} is larger than {MAX_SECRET_SIZE >> 10} KiB: is it a secret?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretError(setting, f"{path} is not UTF-8 text") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise SecretError(setting, f"{path} is empty")
    return value


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "this is a directory: give the path of the file in it"
    if isinstance(error, PermissionError):
        return "permission denied: check the owner and mode of the file"
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read: {error.strerror}"
    return "invalid file name"
