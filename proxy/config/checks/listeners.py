"""Checks listeners and the authentication of their clients; a dangerous combination is an error."""

from proxy.config.address import is_loopback
from proxy.config.errors import Findings, KeyPath
from proxy.config.listener import Clients, Listener
from proxy.config.model import Config

_ALLOWED = ({"none"}, {"basic"}, {"certificate"}, {"upstream"}, {"basic", "certificate"})
_UPSTREAM_ONLY = ("challenge", "external_url", "token_key_file")
"""Settings that are an error without `auth: upstream`."""
_WITHOUT_EFFECT = ("token_life", "proof_age", "when_unreachable", "last_proof_age")
"""Settings without effect, unless with `auth: upstream`."""


def check_listeners(config: Config, findings: Findings) -> None:
    """Report errors, and settings that let in more clients than intended."""
    has_credentials = bool(config.docker_config_files or any(host.credentials for host in config.hosts.values()))
    for index, listener in enumerate(config.listeners):
        path: KeyPath = ("listeners", index)
        _check_auth(listener.clients, path, findings)
        _check_certificates(listener, path, findings)
        _check_passwords(listener.clients, path, findings)
        _check_upstream(listener.clients, path, findings)
        if is_loopback(split_address(listener.address)[0]):
            continue
        if has_credentials:
            _check_exposure(listener, path, findings)
        _check_plain_text(listener, path, findings)


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of an address to listen on."""
    host, _, port = address.rpartition(":")
    return host.strip("[]").lower(), int(port)


def _check_auth(clients: Clients, path: KeyPath, findings: Findings) -> None:
    where: KeyPath = (*path, "clients", "auth")
    if len(set(clients.auth)) < len(clients.auth):
        findings.error(where, "auth contains a value twice: remove one")
    elif set(clients.auth) not in _ALLOWED:
        findings.error(
            where,
            f"{' and '.join(clients.auth)} cannot be combined: write none, basic, certificate, upstream or "
            "[certificate, basic]",
        )


def _check_certificates(listener: Listener, path: KeyPath, findings: Findings) -> None:
    ca_file = listener.tls.client_ca_file if listener.tls is not None else None
    if "certificate" in listener.clients.auth:
        if ca_file is None:
            findings.error(
                (*path, "clients", "auth"),
                "certificate needs a CA: write tls: {certFile: ..., keyFile: ..., clientCaFile: ...} on the listener",
            )
        return
    if ca_file is not None:
        findings.error(
            (*path, "tls", "clientCaFile"),
            "clientCaFile has no effect without auth: certificate: write clients: {auth: certificate}, or remove it",
        )
    if listener.clients.subjects:
        findings.error(
            (*path, "clients", "subjects"),
            "subjects have no effect without auth: certificate: write auth: certificate, or remove them",
        )


def _check_passwords(clients: Clients, path: KeyPath, findings: Findings) -> None:
    if "basic" in clients.auth and clients.htpasswd_file is None:
        findings.error((*path, "clients", "auth"), "basic needs a file with users: add htpasswdFile: FILE")
    if "basic" not in clients.auth and clients.htpasswd_file is not None:
        findings.error(
            (*path, "clients", "htpasswdFile"),
            "htpasswdFile has no effect without auth: basic: write auth: basic, or remove it",
        )


def _check_upstream(clients: Clients, path: KeyPath, findings: Findings) -> None:
    if clients.asks_upstream:
        _check_challenge(clients, path, findings)
        return
    for setting in _set_ones(clients, _UPSTREAM_ONLY):
        findings.error(
            (*path, "clients", setting),
            f"{setting} has no effect without auth: upstream: write auth: upstream, or remove it",
        )
    for setting in _set_ones(clients, _WITHOUT_EFFECT):
        findings.warning((*path, "clients", setting), f"{setting} has no effect without auth: upstream")
    if clients.allow_anonymous and "none" not in clients.auth:
        findings.warning(
            (*path, "clients", "allowAnonymous"),
            f"allowAnonymous has no effect with {' and '.join(clients.auth)}: every client must authenticate",
        )


def _check_challenge(clients: Clients, path: KeyPath, findings: Findings) -> None:
    if clients.challenge == "bearer":
        for setting, value, what in (
            ("externalURL", clients.external_url, "the URL at which clients get tokens"),
            ("tokenKeyFile", clients.token_key_file, "the keys to encrypt tokens"),
        ):
            if value is None:
                findings.error((*path, "clients", "challenge"), f"bearer needs {setting}, {what}: add it")
        return
    for setting in _set_ones(clients, ("external_url", "token_key_file", "token_life")):
        findings.warning((*path, "clients", setting), f"{setting} has no effect without challenge: bearer")


def check_offline(config: Config, findings: Findings) -> None:
    """Report listeners whose clients only an upstream can judge, where no upstream is requested."""
    if config.cache is None or not config.cache.offline:
        return
    for index, listener in enumerate(config.listeners):
        if listener.clients.asks_upstream:
            findings.error(
                ("listeners", index, "clients", "auth"),
                "auth: upstream has the registry prove what a client may pull, and cache.offline sends it no request: "
                "use basic or certificate with access rules, or remove cache.offline",
            )


def _set_ones(clients: Clients, names: tuple[str, ...]) -> list[str]:
    """The names of those settings that differ from their defaults (a file from `check --effective` has all of them)."""
    fields = Clients.model_fields
    return [str(fields[name].alias) for name in names if getattr(clients, name) != fields[name].default]


def _check_exposure(listener: Listener, path: KeyPath, findings: Findings) -> None:
    """Require `allowAnonymous` for `none` beyond loopback if credentials are configured."""
    if "none" in listener.clients.auth and not listener.clients.allow_anonymous:
        findings.error(
            (*path, "address"),
            f"{listener.address} can be reached from other machines, and credentials are configured: everybody who can "
            "reach it pulls with them. Listen on 127.0.0.1, or allow it with clients: {allowAnonymous: true}",
        )


def _check_plain_text(listener: Listener, path: KeyPath, findings: Findings) -> None:
    if listener.tls is None and {"basic", "upstream"} & set(listener.clients.auth):
        findings.warning(
            (*path, "address"),
            f"clients send passwords to {listener.address} in plain text: write tls: "
            "{certFile: ..., keyFile: ...} on the listener",
        )
