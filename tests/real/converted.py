"""A converted registries.yaml in use: the proxy with its new configuration, a node with its new file."""

import base64
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from proxy.nodes.node_config import Mark, NodeHosts
from tests.real.hosts import NOWHERE
from tests.real.processes import Outcome, Process, answers, free_port, run
from tests.real.proxy_process import PROGRAM, PROJECT_ROOT


@dataclass(frozen=True, slots=True)
class Converted:
    """What `scope-proxy convert` made of a file."""

    directory: Path
    outcome: Outcome

    def text(self, name: str) -> str:
        """The text of a part."""
        return (self.directory / name).read_text(encoding="utf-8")

    def mount_secrets(self) -> None:
        """Write each value of the Secrets into the file that a pod would see, where the configuration looks for it."""
        for secret in YAML(typ="safe", pure=True).load_all(self.text("secrets.yaml")):
            directory = self.directory / "secrets" / secret["metadata"]["name"].removeprefix("scope-proxy-")
            directory.mkdir(parents=True)
            for key, value in secret["data"].items():
                (directory / key).write_bytes(base64.b64decode(value))

    def check(self) -> Outcome:
        """What `scope-proxy check` says of the configuration."""
        return run([*PROGRAM, "check", "--config", str(self.directory / "config.yaml")])


def convert(file: Path, directory: Path, proxy: str, *arguments: str) -> Converted:
    """Convert a file, with the secrets in a directory beside the parts."""
    command = [
        "convert",
        str(file),
        "--output",
        str(directory),
        "--proxy",
        proxy,
        "--secrets-dir",
        str(directory / "secrets"),
    ]
    return Converted(directory, run([*PROGRAM, *command, *arguments]))


@contextlib.contextmanager
def serving(config: Path) -> Iterator[Process]:
    """Run the proxy with a configuration that says where to listen."""
    admin = f"127.0.0.1:{free_port()}"
    command = [*PROGRAM, "serve", "--config", str(config), "--admin", admin]
    process = Process(command, log=config.parent / "log", cwd=PROJECT_ROOT)
    try:
        process.wait_ready(lambda: answers(f"http://{admin}/readyz", 200))
        yield process
    finally:
        process.stop()
        sys.stderr.write(f"--- the proxy's log ---\n{process.log()}")


def place(certs_d: Path, registries_yaml: str) -> Sequence[str]:
    """Write the tree that k3s makes of a node's file at its start; the registries in it."""
    file: dict[str, Any] = YAML(typ="safe", pure=True).load(registries_yaml)
    assert set(file) == {"mirrors"}
    for name, mirror in file["mirrors"].items():
        assert set(mirror) == {"endpoint"}, "a node has nothing to rewrite any more"
        hosts = NodeHosts(name, tuple(mirror["endpoint"]), NOWHERE)
        (certs_d / hosts.directory).mkdir()
        (certs_d / hosts.directory / "hosts.toml").write_text(hosts.render(Mark("k3s")))
    return tuple(file["mirrors"])
