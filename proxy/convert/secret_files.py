"""Secrets move out of the configuration: into files that are mounted from Kubernetes Secrets."""

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Any

from proxy.config.model import ANY, Config, Credential, Host
from proxy.convert.result import SecretFile

_MAX_FOLDER, _TAIL = 40, 8
_KEYS = (("password", "password"), ("identity_token", "identity-token"))


def move_secrets(config: Config, mount: str) -> tuple[Config, tuple[SecretFile, ...]]:
    """The configuration with a file in place of each secret, below the folder `mount`; and those files."""
    files: list[SecretFile] = []
    hosts = {}
    for name, host in config.hosts.items():
        folder = _folder(name, {file.folder for file in files})
        hosts[name] = _moved(name, host, folder, mount, files)
    return config.model_copy(update={"hosts": hosts}), tuple(files)


def secret_name(folder: str) -> str:
    """The name of the Secret of a folder."""
    return f"scope-proxy-{folder}"


def manifests(files: Sequence[SecretFile]) -> list[dict[str, Any]]:
    """A Secret for each folder, with the values in base64 under `data`."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret_name(folder)},
            "type": "Opaque",
            "data": {
                file.key: base64.b64encode(file.value.encode()).decode() for file in files if file.folder == folder
            },
        }
        for folder in dict.fromkeys(file.folder for file in files)
    ]


def _folder(host: str, taken: Collection[str]) -> str:
    """A name that the chart, Kubernetes and a path can have: lower-case letters, digits and hyphens, not too long."""
    plain = "any" if host == ANY else re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")
    if len(plain) <= _MAX_FOLDER and plain not in taken:
        return plain
    tail = hashlib.sha256(host.encode()).hexdigest()[:_TAIL]
    return f"{plain[: _MAX_FOLDER - _TAIL - 1].strip('-')}-{tail}"


def _moved(name: str, host: Host, folder: str, mount: str, files: list[SecretFile]) -> Host:
    """A registries.yaml gives a host one credential at the most."""
    credentials = tuple(_without_secret(name, credential, folder, mount, files) for credential in host.credentials)
    return host.model_copy(update={"credentials": credentials})


def _without_secret(host: str, credential: Credential, folder: str, mount: str, files: list[SecretFile]) -> Credential:
    for setting, key in _KEYS:
        secret = getattr(credential, setting)
        if secret is not None:
            files.append(SecretFile(host, folder, key, secret.get_secret_value()))
            path = f"{mount.rstrip('/')}/{folder}/{key}"
            return credential.model_copy(update={setting: None, f"{setting}_file": path})
    return credential
