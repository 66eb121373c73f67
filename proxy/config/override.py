"""Addresses from the command line: a registries.yaml has no place for them, and a pod learns its node's only there."""

from dataclasses import dataclass, replace

from pydantic import ValidationError

from proxy.config.errors import ConfigError
from proxy.config.findings import Findings
from proxy.config.listener import Listener
from proxy.config.loaded import Loaded
from proxy.config.model import Admin
from proxy.config.validate import validate_servers


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses that replace those of the configuration; None keeps what it says."""

    listen: str | None = None
    admin: str | None = None
    metrics: str | None = None


def with_addresses(loaded: Loaded, addresses: Addresses) -> Loaded:
    """The configuration with other addresses to listen on, for nodes and for the operator.

    Raises ValueError for what is no address, and ConfigError where the address cannot be used with the rest.
    """
    changes: dict[str, object] = {}
    try:
        if addresses.listen is not None:
            first = loaded.config.listeners[0]
            changes["listeners"] = (Listener(address=addresses.listen, tls=first.tls, clients=first.clients),)
        if addresses.admin is not None or addresses.metrics is not None:
            changes["admin"] = _admin(loaded.config.admin, addresses)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(message.removeprefix("Value error, ")) from None
    config = loaded.config.model_copy(update=changes)
    findings = Findings(loaded.positions)
    validate_servers(config, findings)
    if findings.problems:
        raise ConfigError(findings.problems)
    return replace(loaded, config=config)


def _admin(configured: Admin | None, addresses: Addresses) -> Admin:
    """The operator's addresses; raises ValueError."""
    if configured is None and addresses.admin is None:
        raise ValueError("--metrics adds an address to admin, which is null in the configuration: give --admin as well")
    before = configured or Admin()
    address = addresses.admin if addresses.admin is not None else before.address
    metrics = addresses.metrics if addresses.metrics is not None else before.metrics_address
    return Admin.model_validate({"address": address, "metricsAddress": metrics})
