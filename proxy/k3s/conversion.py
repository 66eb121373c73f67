"""The conversion of one `registries.yaml`."""

from proxy.config.address import Origin, default_endpoint, is_loopback
from proxy.config.checks.rules import NOT_IDEMPOTENT
from proxy.config.checks.validate import UNUSED_HOST, validate_servers
from proxy.config.errors import ConfigError, Findings, Note, Position, Problem
from proxy.config.load import parse_config
from proxy.config.model import ANY, Config, Host
from proxy.config.reading.yaml_values import Document, read_document
from proxy.k3s.changes import ChangeReporter
from proxy.k3s.credential_hosts import settle_hosts
from proxy.k3s.mirrors import BREAKS_HOSTS_TOML, LAST_HOST
from proxy.k3s.node_file import NodeFile, secret_values
from proxy.k3s.reader import repair_keys
from proxy.k3s.registries_yaml import EMPTY_WILDCARD, import_document
from proxy.k3s.result import Change, Conversion, Settings, move_secrets, render_config

CONFIG_NAME = "config.yaml"
_SETTLED = (NOT_IDEMPOTENT, UNUSED_HOST, BREAKS_HOSTS_TOML, EMPTY_WILDCARD, LAST_HOST)
"""Warnings of the importer about what a conversion fixes."""


def convert(text: str, file: str, settings: Settings) -> Conversion:
    """Convert the text of a registries.yaml; `file` is what messages call it. Raises ConfigError."""
    document = read_document(text, file, version="1.1", keep="last")
    repairs = repair_keys(document)
    loaded = import_document(document, _listen(settings))
    findings = Findings(loaded.positions)
    validate_servers(loaded.config, findings)
    if findings.problems:
        raise ConfigError(findings.problems)
    settled = settle_hosts(loaded.config, loaded.positions)
    config, secrets = move_secrets(_with_realms(settled.config, settings.realms, file), settings.secrets_directory)
    notes = [note for note in (*repairs, *loaded.notes) if not note.message.startswith(_SETTLED)]
    notes += _unused(config)
    reporter = ChangeReporter(document, config, loaded.positions, settled.came_from)
    changes = [*settled.changes, *map(Change.of, notes), *reporter.changes(secrets)]
    hidden = secret_values(text, file)
    node = NodeFile(list(config.registries), settings.proxies, settings.ca_file, _kept(document, config), hidden)
    return Conversion(config, secrets, node.edit(text, file), tuple(sorted(set(changes))))


def _listen(settings: Settings) -> str | None:
    """The address on which nodes expect the proxy; None where it is not on loopback without TLS."""
    origin = Origin.parse(settings.proxies[0])
    if origin.scheme != "http" or not is_loopback(origin.host):
        return None
    return f"{origin.authority_host}:{origin.port}"


def _with_realms(config: Config, realms: tuple[tuple[str, str], ...], file: str) -> Config:
    hosts = dict(config.hosts)
    known = {endpoint.address.origin.authority for each in config.registries.values() for endpoint in each.endpoints}
    known |= {default_endpoint(name).origin.authority for name, each in config.registries.items() if not each.endpoints}
    for name, realm in realms:
        if name not in known:
            message = f"--realm {name}: no endpoint is on this host; there are {', '.join(sorted(known)) or 'none'}"
            raise ConfigError([Problem(Position(file), message)])
        host = hosts.get(name) or hosts.get(ANY) or Host()
        hosts[name] = host.model_copy(update={"realms": (*host.realms, realm)})
    return config.model_copy(update={"hosts": hosts})


def _unused(config: Config) -> list[Note]:
    """Entries of `hosts` that nothing uses yet; raises ConfigError if the new configuration is invalid."""
    notes = parse_config(render_config(config), CONFIG_NAME).notes
    return [note for note in notes if note.message.startswith(UNUSED_HOST)]


def _kept(document: Document, config: Config) -> tuple[str, ...]:
    """Mirrors that stay on the node as they are."""
    mirrors = document.value.get("mirrors") if isinstance(document.value, dict) else None
    is_kept = isinstance(mirrors, dict) and ANY in mirrors and ANY not in config.registries
    return (ANY,) if is_kept else ()
