"""Debian's docker-registry, with token authentication or open for uploads."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.processes import Process, answers, free_port, scratch
from tests.real.signing import ISSUER, SERVICE, Signer

_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>[0-9]+) (?P<size>[0-9]+) ')


@dataclass(frozen=True, slots=True)
class Served:
    """One answer, as the access log has it; `size` is the number of bytes of its body."""

    method: str
    path: str
    status: int
    size: int


class Registry:
    """A running docker-registry."""

    def __init__(self, address: str, process: Process) -> None:
        self.address = address
        self.url = f"http://{address}"
        self.process = process

    def served(self, method: str, kind: str = "") -> list[Served]:
        """What it has given out with status 200 or 206: `kind` is manifests or blobs. Needs an access log."""
        lines = map(_LINE.search, self.process.log_file.read_text(errors="replace").splitlines())
        found = [Served(m["method"], m["path"], int(m["status"]), int(m["size"])) for m in lines if m]
        return [one for one in found if one.method == method and f"/{kind}" in one.path and one.status in {200, 206}]

    def counts(self, method: str, kind: str = "") -> Counter[str]:
        """How often each tag or digest was given out."""
        return Counter(one.path.partition("?")[0].rpartition("/")[2] for one in self.served(method, kind))


@contextlib.contextmanager
def open_registry(store: Path) -> Iterator[Registry]:
    """A registry on `store` that lets everybody push."""
    with _running(store, {}) as registry:
        yield registry


@contextlib.contextmanager
def token_registry(
    store: Path, *, token_server: str, signer: Signer, prefix: str = "/", access_log: bool = False
) -> Iterator[Registry]:
    """A registry on `store` that wants tokens of the server at the URL `token_server`.

    `prefix` stands before `/v2/` in its paths, as in Artifactory's `/artifactory/api/docker/<repository key>/`.
    With `access_log` it tells what it has served.
    """
    with scratch("registry-root") as directory:
        root = directory / "root.pem"
        signer.write_root(root)
        token = {"realm": f"{token_server}/token", "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(root)}
        log = {"level": "warn", "accesslog": {"disabled": not access_log}}
        with _running(store, {"auth": {"token": token}, "log": log}, prefix) as registry:
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
