"""Debian's docker-registry, with token authentication or open for uploads."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.real.processes import Process, answers, free_port, scratch
from tests.real.signing import ISSUER, SERVICE, Signer


class Registry:
    """A running docker-registry."""

    def __init__(self, address: str, process: Process) -> None:
        self.address = address
        self.url = f"http://{address}"
        self.process = process


@contextlib.contextmanager
def open_registry(store: Path) -> Iterator[Registry]:
    """A registry on `store` that lets everybody push."""
    with _running(store, {}) as registry:
        yield registry


@contextlib.contextmanager
def token_registry(store: Path, *, token_server: str, signer: Signer, prefix: str = "/") -> Iterator[Registry]:
    """A registry on `store` that wants tokens of the server at the URL `token_server`.

    `prefix` stands before `/v2/` in its paths, as in Artifactory's `/artifactory/api/docker/<repository key>/`.
    """
    with scratch("registry-root") as directory:
        root = directory / "root.pem"
        signer.write_root(root)
        token = {"realm": f"{token_server}/token", "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(root)}
        with _running(store, {"auth": {"token": token}}, prefix) as registry:
            yield registry


@contextlib.contextmanager
def _running(store: Path, more: Mapping[str, object], prefix: str = "/") -> Iterator[Registry]:
    address = f"127.0.0.1:{free_port()}"
    storage = {"filesystem": {"rootdirectory": str(store)}, "maintenance": {"uploadpurging": {"enabled": False}}}
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": storage,
        "http": {"addr": address, "secret": "for-these-tests", "prefix": prefix},
        **more,
    }
    with scratch("registry") as directory:
        file = directory / "config.yml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        process = Process(["docker-registry", "serve", str(file)], log=directory / "log")
        try:
            process.wait_ready(lambda: answers(f"http://{address}{prefix}v2/", 200, 401))
            yield Registry(address, process)
        finally:
            process.stop()
