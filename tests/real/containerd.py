"""Debian's containerd as a node has it, with a root, a state and a socket of its own."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import tomli_w

from tests.real.cri import Auth, Cri
from tests.real.ctr import Ctr
from tests.real.processes import RUN_TIMEOUT, Process, run, scratch

READY_TIMEOUT = 20.0
CRI_PLUGIN = "io.containerd.grpc.v1.cri"
STORE = "io.containerd.content.v1.content/blobs/sha256"
SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
# each would look at, or make, something outside the node's own directories
UNUSED_PLUGINS = (
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
)


class Node:
    """A running containerd with clients for CRI and `ctr`."""

    def __init__(self, directory: Path, process: Process) -> None:
        self.process = process
        self.certs_d = directory / "certs.d"
        self._root = directory / "root"
        socket = directory / "containerd.sock"
        self.cri = Cri(socket)
        self.ctr = Ctr(socket, self.certs_d)

    def content(self) -> dict[str, str]:
        """The digest under which each blob is stored, with the digest that its bytes have."""
        # A containerd that has pulled nothing has no such directory.
        return {f"sha256:{file.name}": _digest(file) for file in (self._root / STORE).glob("*")}

    def unpacked_files(self) -> set[str]:
        """The paths of all files in the unpacked layers."""
        layers = (self._root / SNAPSHOTS).glob("*/fs")
        return {str(file.relative_to(layer)) for layer in layers for file in layer.rglob("*") if file.is_file()}

    def assert_complete(self, image: str, *files: str) -> None:
        """Assert that the image is whole and unpacked, that its blobs are what they say and its files are there."""
        assert self.ctr.is_unpacked(image), f"{image} is not unpacked"
        assert all(name == digest for name, digest in self.content().items())
        assert set(files) <= self.unpacked_files()


@contextlib.contextmanager
def containerd(auths: Mapping[str, Auth] | None = None) -> Iterator[Node]:
    """Start a node; `auths` are credentials in its configuration, by the endpoint's `host:port`."""
    with scratch("node") as directory, _mounts_removed(directory):
        file = directory / "config.toml"
        file.write_text(tomli_w.dumps(_settings(directory, auths or {})))
        (directory / "certs.d").mkdir()
        process = Process(["containerd", "--config", str(file)], log=directory / "log")
        try:
            process.wait_ready((directory / "containerd.sock").is_socket)
            node = Node(directory, process)
            with contextlib.closing(node.cri):
                node.cri.wait_ready(READY_TIMEOUT)
                yield node
        finally:
            process.stop()


def _settings(directory: Path, auths: Mapping[str, Auth]) -> dict[str, object]:
    configs = {host: {"auth": {"username": auth.username, "password": auth.password}} for host, auth in auths.items()}
    cri = {
        "stream_server_address": "127.0.0.1",
        "stream_server_port": "0",
        "cni": {"conf_dir": str(directory / "cni"), "bin_dir": str(directory / "cni-bin")},
        "registry": {"config_path": str(directory / "certs.d"), "configs": configs},
    }
    return {
        "version": 2,
        "root": str(directory / "root"),
        "state": str(directory / "state"),
        "temp": str(directory / "temp"),
        "disabled_plugins": list(UNUSED_PLUGINS),
        "grpc": {"address": str(directory / "containerd.sock")},
        "ttrpc": {"address": str(directory / "containerd.ttrpc.sock")},
        "plugins": {CRI_PLUGIN: cri},
    }


@contextlib.contextmanager
def _mounts_removed(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for path in reversed(mounted):
            if Path(path).is_relative_to(directory):
                run(["umount", "--lazy", path], timeout=RUN_TIMEOUT).checked()


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()}"
