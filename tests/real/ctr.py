"""`ctr`, containerd's own command line; unlike CRI it reads the hosts directory by itself."""

import os
from pathlib import Path

from tests.real.processes import RUN_TIMEOUT, Outcome, run

NAMESPACE = "k8s.io"  # where CRI keeps its images


class Ctr:
    """Runs `ctr` against one containerd."""

    def __init__(self, socket: Path, certs_d: Path) -> None:
        self._socket = socket
        self._certs_d = certs_d

    def run(self, *arguments: str, timeout: float = RUN_TIMEOUT) -> Outcome:
        """Run any command of `ctr`."""
        command = ["ctr", "--address", os.fspath(self._socket), "--namespace", NAMESPACE, *arguments]
        return run(command, timeout=timeout)

    def pull(self, image: str, *, user: str | None = None, timeout: float = RUN_TIMEOUT) -> Outcome:
        """Pull and unpack an image; `user` is `name:password`."""
        credentials = [] if user is None else ["--user", user]
        command = ["images", "pull", "--hosts-dir", os.fspath(self._certs_d), *credentials, image]
        return self.run(*command, timeout=timeout)

    def is_unpacked(self, image: str) -> bool:
        """Whether all content of the image is there and its layers are unpacked."""
        # columns: REF TYPE DIGEST STATUS (complete|incomplete) (present/needed) SIZE UNPACKED
        rows = self.run("images", "check", f"name=={image}").checked().splitlines()[1:]
        return len(rows) == 1 and " complete (" in rows[0] and rows[0].split()[-1] == "true"
