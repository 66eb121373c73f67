"""skopeo, which asks the token server for one scope and sends no `ns=`."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.real.processes import RUN_TIMEOUT, Outcome, run


class Skopeo:
    """Runs skopeo with no configuration but what a test gives it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._registries = directory / "registries.conf"
        self._locations: dict[str, str] = {}
        (directory / "auth.json").write_text("{}")
        self._write_registries()

    def locate(self, registry: str, location: str) -> None:
        """Ask for images of `registry` (`icr.io`) at `location` (`127.0.0.1:5000/icr.io`) over plain HTTP."""
        self._locations[registry] = location
        self._write_registries()

    def inspect_raw(self, image: str, *, user: str | None = None) -> Outcome:
        """The manifest of an image as the registry sends it."""
        credentials = ["--no-creds"] if user is None else ["--creds", user]
        return self._run("inspect", "--raw", "--tls-verify=false", *credentials, f"docker://{image}")

    def copy(
        self, image: str, name: str, *, user: str | None = None, every: bool = False, timeout: float = RUN_TIMEOUT
    ) -> Outcome:
        """Copy an image (`every`: all platforms of an index) into the directory that `copied(name)` reads."""
        credentials = ["--src-no-creds"] if user is None else ["--src-creds", user]
        platforms = ["--all"] if every else []
        target = f"dir:{self._directory / name}"
        options = ["--src-tls-verify=false", "--preserve-digests", *credentials, *platforms]
        return self._run("copy", *options, f"docker://{image}", target, timeout=timeout)

    def move(self, source: str, target: str, *, every: bool = False) -> Outcome:
        """Copy between any two places that skopeo knows, without credentials and with all digests kept."""
        platforms = ["--all"] if every else []
        options = ["--src-tls-verify=false", "--dest-tls-verify=false", "--src-no-creds", "--dest-no-creds"]
        return self._run("copy", *options, "--preserve-digests", *platforms, source, target)

    def copied(self, name: str) -> Mapping[str, bytes]:
        """The files of a copy: `manifest.json` and each blob under the hexadecimal part of its digest."""
        return {file.name: file.read_bytes() for file in (self._directory / name).iterdir()}

    def _run(self, *arguments: str, timeout: float = RUN_TIMEOUT) -> Outcome:
        settings = ["--insecure-policy", "--registries-conf", os.fspath(self._registries)]
        env = {"REGISTRY_AUTH_FILE": os.fspath(self._directory / "auth.json")}
        return run(["skopeo", *settings, *arguments], timeout=timeout, env=env)

    def _write_registries(self) -> None:
        tables = [
            f'[[registry]]\nprefix = "{registry}"\nlocation = "{location}"\ninsecure = true\n'
            for registry, location in self._locations.items()
        ]
        self._registries.write_text("\n".join(tables))
