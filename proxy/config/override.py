"""Addresses from the command line: a registries.yaml has no place for them."""

from dataclasses import replace

from pydantic import ValidationError

from proxy.config.errors import ConfigError
from proxy.config.findings import Findings
from proxy.config.listener import Listener
from proxy.config.loaded import Loaded
from proxy.config.model import Admin
from proxy.config.validate import validate_servers


def with_addresses(loaded: Loaded, listen: str | None, admin: str | None) -> Loaded:
    """The configuration with another address to listen on, for nodes and for the operator.

    Raises ValueError for what is no address, and ConfigError where the address cannot be used with the rest.
    """
    changes: dict[str, object] = {}
    try:
        if listen is not None:
            first = loaded.config.listeners[0]
            changes["listeners"] = (Listener(address=listen, tls=first.tls, clients=first.clients),)
        if admin is not None:
            changes["admin"] = Admin(address=admin)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(message.removeprefix("Value error, ")) from None
    config = loaded.config.model_copy(update=changes)
    findings = Findings(loaded.positions)
    validate_servers(config, findings)
    if findings.problems:
        raise ConfigError(findings.problems)
    return replace(loaded, config=config)
