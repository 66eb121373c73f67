"""The `hosts.toml` files that tell containerd which host to ask for a registry."""

from collections.abc import Sequence
from pathlib import Path

import tomli_w

NOWHERE = "http://127.0.0.1:1"  # refuses at once: the registry itself, out of reach of the node


def write_mirror(
    certs_d: Path,
    registry: str,
    endpoints: Sequence[str],
    *,
    server: str = NOWHERE,
    override_path: bool = False,
) -> None:
    """Send pulls from `registry` to the endpoints in order, then to `server`.

    An endpoint is a URL with its API root: `http://127.0.0.1:5000/v2`; containerd adds `/v2` unless `override_path`.
    """
    host: dict[str, object] = {"capabilities": ["pull", "resolve"]}
    if override_path:
        host["override_path"] = True
    write_hosts(certs_d, registry, {"server": server, "host": dict.fromkeys(endpoints, host)})


def write_server(certs_d: Path, registry: str, server: str, *, override_path: bool = False) -> None:
    """Name `server` as the one place of `registry`, with no mirror before it."""
    # containerd 1.6 cannot read a file without a [host] table
    write_hosts(certs_d, registry, {"server": server, "override_path": override_path, "host": {}})


def write_hosts(certs_d: Path, registry: str, content: dict[str, object]) -> None:
    """Write the file of one registry; `_default` stands for all others."""
    directory = certs_d / registry
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts.toml").write_text(tomli_w.dumps(content))
