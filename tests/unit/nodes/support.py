"""Trees of a node, and what is in them."""

from pathlib import Path

from proxy.config.load import parse_config
from proxy.nodes.node_config import NodeHosts, plan

PROXY = "http://127.0.0.1:5000"
SECURE = "https://proxy.example.com:5443"
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CONFIG = """version: 1
registries:
  docker.io: {}
  icr.io:
    endpoints: [https://mirror.example.com]
    rewrites: [{pattern: '^cpopen/(.+)$', replacement: 'local/$1'}]
  "registry.example.com:5000": {}
"""


def hosts(*proxies: str, text: str = CONFIG) -> tuple[NodeHosts, ...]:
    """What a node asks by a configuration."""
    return plan(parse_config(text, "config.yaml").config, proxies or (PROXY,))


def snapshot(directory: Path) -> dict[str, tuple[int, bytes | None]]:
    """Everything below a directory: modes, and the bytes of files."""
    return {
        str(path.relative_to(directory)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(directory.rglob("*"))
    }
