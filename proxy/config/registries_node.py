"""The `registries.yaml` of a node that asks the proxy: mirrors, and nothing to rewrite or to log in with."""

import json
import re
from collections.abc import Sequence
from typing import Any

from proxy.config.address import Origin

_PLAIN_KEY = re.compile(r"[a-z][a-z0-9.-]*")


def node_settings(names: Sequence[str], proxies: Sequence[str], ca_file: str | None = None) -> dict[str, Any]:
    """What the file says: each registry is asked for at the proxies; `ca_file` is their authority, on the node."""
    settings: dict[str, Any] = {"mirrors": {name: {"endpoint": list(proxies)} for name in names}}
    hosts = secure_hosts(proxies) if ca_file is not None else []
    if hosts:
        settings["configs"] = {host: {"tls": {"ca_file": ca_file}} for host in hosts}
    return settings


def render_node(names: Sequence[str], proxies: Sequence[str], ca_file: str | None = None) -> str:
    """The file as text."""
    lines = ["mirrors:"]
    for name in names:
        lines += [f"  {yaml_key(name)}:", *endpoint_lines("    ", proxies)]
    return "\n".join([*(lines if names else ["mirrors: {}"]), *ca_lines(proxies, ca_file), ""])


def endpoint_lines(indent: str, proxies: Sequence[str], comment: str = "") -> list[str]:
    """The endpoints of one registry."""
    return [f"{indent}endpoint:{comment}", *(f"{indent}  - {json.dumps(proxy)}" for proxy in proxies)]


def ca_lines(proxies: Sequence[str], ca_file: str | None) -> list[str]:
    """The section that names the authority of proxies with certificates."""
    hosts = secure_hosts(proxies) if ca_file is not None else []
    lines = ["configs:"] if hosts else []
    for host in hosts:
        lines += [f"  {json.dumps(host)}:", "    tls:", f"      ca_file: {json.dumps(ca_file)}"]
    return lines


def secure_hosts(proxies: Sequence[str]) -> list[str]:
    """The `host[:port]` of each proxy with a certificate."""
    origins = [Origin.parse(proxy) for proxy in proxies]
    return list(dict.fromkeys(origin.authority for origin in origins if origin.scheme == "https"))


def yaml_key(name: str) -> str:
    """A key, in quotes where YAML could take it for something else."""
    return name if _PLAIN_KEY.fullmatch(name) and name not in {"y", "n", "yes", "no", "on", "off"} else json.dumps(name)
