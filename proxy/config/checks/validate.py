"""Checks a configuration across its sections."""

import difflib
from collections.abc import Iterator

from proxy.config.address import EndpointAddress, Origin, default_endpoint, is_loopback
from proxy.config.checks.access import check_access
from proxy.config.checks.listeners import check_listeners, check_offline, split_address
from proxy.config.checks.rules import check_rules
from proxy.config.errors import Findings, KeyPath, setting_name
from proxy.config.model import ANY, Config, Registry, Rewrite
from proxy.oci.reference import DOCKER_HUB, HUB_NAMES

SERIES_LIMIT = 50
"""Number of registries, and of rewrite rules, above which there is a warning because of the metrics."""
_OF_REGISTRY = 140
"""Approximate number of series for each registry."""


def check_size(config: Config, findings: Findings) -> None:
    """Warn about more registries or rules than the metrics are meant for."""
    registries = len(config.registries)
    if registries > SERIES_LIMIT:
        findings.warning_at_key(
            ("registries",),
            f"{registries} registries: each adds about {_OF_REGISTRY} series to the metrics, so more than "
            f'{SERIES_LIMIT} are many for Prometheus. Use "*" for those that need no settings of their own',
        )
    rules = sum(map(_rules, config.registries.values()))
    if rules > SERIES_LIMIT:
        findings.warning_at_key(
            ("registries",),
            f"{rules} rewrite rules: each adds a series to the metrics, and more than {SERIES_LIMIT} are hard to "
            "survey. One pattern with groups can replace many rules",
        )


def _rules(registry: Registry) -> int:
    return len(registry.rewrites) + sum(len(endpoint.rewrites or ()) for endpoint in registry.endpoints)


UNUSED_HOST = "no endpoint is on this host"
"""The beginning of the warning about an unused entry of `hosts`."""

MAX_SUGGESTED_HOSTS = 5
"""Maximum number of hosts that a warning suggests."""

_ANY_ADDRESS = {"", "0.0.0.0", "::"}


def validate(config: Config, findings: Findings) -> None:
    """Report errors and probable mistakes across the sections of a configuration."""
    validate_servers(config, findings)
    for name, registry in config.registries.items():
        check_rules(name, registry, findings)
    check_access(config, findings)
    check_offline(config, findings)
    check_size(config, findings)
    _check_log(config, findings)


def validate_servers(config: Config, findings: Findings) -> None:
    """The part of `validate` that is about addresses, listeners, endpoints and hosts."""
    _check_addresses(config, findings)
    check_listeners(config, findings)
    for name, registry in config.registries.items():
        _check_registry(config, name, registry, findings)
    _check_hosts(config, findings)


def _check_log(config: Config, findings: Findings) -> None:
    """Warn about an access log that is both configured and turned off."""
    log = config.log
    if log.access in ("errors", "denied") and log.level in ("warning", "error"):
        findings.warning_at_key(
            ("log", "access"),
            f"access: {log.access} logs nothing: these lines have the level info, and log.level is {log.level}. "
            "Set log.level to info",
        )


def _check_addresses(config: Config, findings: Findings) -> None:
    used: list[tuple[str, int, KeyPath]] = []
    for path, address in _addresses(config):
        host, port = split_address(address)
        users = (user for known, other, user in used if port == other and port != 0 and _overlap(host, known))
        if (user := next(users, None)) is not None:
            findings.error(path, f"{address} is already used by {setting_name(user)}: use another port")
        used.append((host, port, path))


def _addresses(config: Config) -> Iterator[tuple[KeyPath, str]]:
    for index, listener in enumerate(config.listeners):
        yield ("listeners", index, "address"), listener.address
    if config.admin is not None:
        yield ("admin", "address"), config.admin.address
        if config.admin.metrics_address is not None:
            yield ("admin", "metricsAddress"), config.admin.metrics_address


def _overlap(one: str, other: str) -> bool:
    return one == other or bool(_ANY_ADDRESS & {one, other})


def _check_registry(config: Config, name: str, registry: Registry, findings: Findings) -> None:
    path: KeyPath = ("registries", name)
    if name == ANY and not registry.endpoints:
        findings.error(path, 'the registry "*" needs endpoints: without them, clients could send requests to any host')
    seen: set[tuple[EndpointAddress, tuple[Rewrite, ...] | None]] = set()
    for index, endpoint in enumerate(registry.endpoints):
        where: KeyPath = (*path, "endpoints", index)
        where = (*where, "url") if findings.positions.has(*where, "url") else where
        address = endpoint.address
        if (address, endpoint.rewrites) in seen:
            findings.warning(where, f"{address} is listed twice: remove one")
        seen.add((address, endpoint.rewrites))
        _check_endpoint(config, address, where, findings)


def _check_endpoint(config: Config, address: EndpointAddress, path: KeyPath, findings: Findings) -> None:
    if any(_is_own(address.origin, listener.address) for listener in config.listeners):
        findings.error(path, f"{address.origin} is this proxy itself: write the address of the registry")
    if "v2" not in address.root.split("/"):
        findings.warning(
            path,
            f"the path {address.root} replaces /v2: requests go to {address}/<repository>/... "
            f"If {address.root} is a prefix of repositories, write {address.origin}/v2{address.root}",
        )
    exposed = config.host(address.origin).credentials or config.docker_config_files
    if address.origin.scheme == "http" and exposed and not is_loopback(address.origin.host):
        findings.warning(path, f"credentials for {address.origin.authority} are sent in plain text: use https")


def _is_own(origin: Origin, listener: str) -> bool:
    """Whether an endpoint is one of our listeners, judged by name and port, without DNS."""
    host, port = split_address(listener)
    same_host = origin.host == host or (is_loopback(origin.host) and (host in _ANY_ADDRESS or is_loopback(host)))
    return origin.port == port and same_host


def _check_hosts(config: Config, findings: Findings) -> None:
    used = {key for origin in _origins(config) if (key := _host_key(config, origin)) is not None}
    for name in config.hosts:
        if name not in used and name != ANY:
            findings.warning_at_key(("hosts", name), f"{UNUSED_HOST}: nothing uses it{_host_advice(config, name)}")


def _host_advice(config: Config, name: str) -> str:
    """What to write instead of an unused host: the host of the registry of that name, or a similar one."""
    registry = DOCKER_HUB if name in HUB_NAMES else name
    own = [origin.authority for entry, origin in _endpoint_origins(config) if entry == registry]
    if own:
        return f". Images of {registry} come from another host: write {' or '.join(dict.fromkeys(own))}"
    hosts = list(dict.fromkeys(origin.authority for _, origin in _endpoint_origins(config)))
    nearest = difflib.get_close_matches(name, hosts, n=1) or hosts[:MAX_SUGGESTED_HOSTS]
    return f". Instead of {name} write {' or '.join(nearest)}" if nearest else ""


def _origins(config: Config) -> Iterator[Origin]:
    """The origin of every configured endpoint, token server and redirect target."""
    for _, origin in _endpoint_origins(config):
        yield origin
    for host in config.hosts.values():
        for url in (*host.realms, *host.redirects):
            yield Origin.parse(url)


def _endpoint_origins(config: Config) -> Iterator[tuple[str, Origin]]:
    """Each registry with the origin of each of its endpoints."""
    for name, registry in config.registries.items():
        if not registry.endpoints and name != ANY:
            yield name, default_endpoint(name).origin
        for endpoint in registry.endpoints:
            yield name, endpoint.address.origin


def _host_key(config: Config, origin: Origin) -> str | None:
    """The entry of `hosts` that `Config.host` uses for an origin."""
    keys = (f"{origin.authority_host}:{origin.port}", origin.authority)
    return next((key for key in keys if key in config.hosts), None)
