"""The proxy as an operator runs it: `python -m proxy serve` with a configuration file."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.real.processes import Outcome, Process, answers, free_port, run, scratch

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "proxy")


class Proxy:
    """A running proxy with one listener."""

    def __init__(self, address: str, admin: str, process: Process, arguments: tuple[str, ...]) -> None:
        self.address = address
        self._arguments = arguments
        self.url = f"http://{address}"
        self.admin_url = f"http://{admin}"
        self.process = process

    def log(self) -> str:
        """The last part of what the proxy wrote to stdout and stderr."""
        return self.process.log()

    def cache(self, *arguments: str) -> Outcome:
        """Run `scope-proxy cache ...` with the same configuration, beside the running proxy."""
        return run([*PROGRAM, "cache", *arguments, *self._arguments])


@contextlib.contextmanager
def serving_proxy(
    registries: Mapping[str, object],
    hosts: Mapping[str, object] | None = None,
    *,
    arguments: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    clients: Mapping[str, object] | None = None,
    **sections: object,
) -> Iterator[Proxy]:
    """Start a proxy with these `registries` and `hosts` on free loopback ports, and wait until it is ready.

    `clients` says who may pull; `{url}` in its values becomes the address of the listener.

    `arguments` are added to the command line, `sections` are further top-level keys of the configuration.
    RuntimeError with the proxy's log when it does not start.
    """
    address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    settings = {
        "version": 1,
        "listeners": [{"address": address, "clients": _with_url(clients or {"auth": "none"}, f"http://{address}")}],
        "admin": {"address": admin},
        "registries": dict(registries),
        "hosts": dict(hosts or {}),
        "timeouts": {"drainIdle": "0s"},  # tests end it when nobody pulls any more
        **sections,
    }
    with scratch("proxy") as directory:
        file = directory / "config.yaml"
        file.write_text(json.dumps(settings, indent=2))  # JSON is YAML
        with _running(directory, address, admin, ("--config", str(file), *arguments), env) as proxy:
            yield proxy


@contextlib.contextmanager
def serving_registries_yaml(file: Path) -> Iterator[Proxy]:
    """Start a proxy with a k3s registries.yaml on free loopback ports, and wait until `/v2/` answers 200."""
    address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    arguments = ("--registries", str(file), "--listen", address, "--admin", admin)
    with scratch("proxy") as directory, _running(directory, address, admin, arguments) as proxy:
        yield proxy


def _with_url(clients: Mapping[str, object], url: str) -> dict[str, object]:
    return {key: value.replace("{url}", url) if isinstance(value, str) else value for key, value in clients.items()}


@contextlib.contextmanager
def _running(
    directory: Path, address: str, admin: str, arguments: tuple[str, ...], env: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    command = [*PROGRAM, "serve", *arguments]
    process = Process(command, log=directory / "log", env=env, cwd=PROJECT_ROOT)
    try:
        process.wait_ready(lambda: answers(f"http://{admin}/readyz", 200))
        yield Proxy(address, admin, process, arguments)
    finally:
        process.stop()
        sys.stderr.write(f"--- the proxy's log ---\n{process.log()}")  # pytest shows it when the test fails
