"""A node's tree of `hosts.toml` files: compared with the configuration, and changed to match it. Blocking calls."""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from proxy.nodes.files import create_directory, is_temporary, remove_directory, remove_file, sweep, write_file
from proxy.nodes.managed_files import ManagedFiles, read_managed
from proxy.nodes.node_config import CA_FILE, HOSTS_FILE, Mark, NodeHosts

TREE_MARK = ".scope-proxy"
"""File in a tree that scope-proxy created; containerd ignores it."""
LOCK_TIMEOUT = 30.0
"""Seconds to wait for another `scope-proxy node` that changes the same tree."""
_LOCK_PAUSE = 0.1


class State(StrEnum):
    """How a directory of the tree compares with the configuration."""

    IN_SYNC = "in sync"
    MISSING = "missing"
    DRIFTED = "drifted"
    UNMANAGED = "unmanaged"
    ORPHANED = "orphaned"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One registry of the tree; `change` is what was done."""

    registry: str
    state: State
    detail: str = ""
    change: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the registry is in sync now."""
        return self.state is State.IN_SYNC or bool(self.change)


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree of one node, and the instance whose files in it are managed."""

    path: Path
    instance: str
    ca: str | None = None
    """The proxies' CA certificates, in PEM."""

    def compare(self, wanted: Sequence[NodeHosts]) -> list[TreeEntry]:
        """Compare without changes; raises OSError."""
        if not self.path.is_dir():
            return [TreeEntry(hosts.registry, State.MISSING) for hosts in wanted]
        return [*(self._compare(hosts) for hosts in wanted), *self._orphaned(wanted)]

    def apply(self, wanted: Sequence[NodeHosts]) -> list[TreeEntry]:
        """Write and remove managed files; unmanaged ones stay. Raises OSError."""
        self._make()
        with self._locked():
            return [*(self._apply(hosts) for hosts in wanted), *map(self._remove, self._orphaned(wanted))]

    def remove(self) -> list[TreeEntry]:
        """Remove all managed files; raises OSError."""
        if self.path.parent.is_dir():
            sweep(self.path.parent)
        if not self.path.is_dir():
            return []
        with self._locked():
            removed = [self._remove(entry) for entry in self._orphaned(())]
            if {entry.name for entry in os.scandir(self.path)} == {TREE_MARK}:
                remove_directory(self.path)
        return removed

    def _make(self) -> None:
        if self.path.is_dir():
            return
        sweep(self.path.parent)
        create_directory(self.path, {TREE_MARK: str(Mark(self.instance, made_directory=True))})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the tree, and remove temporary files of interrupted runs."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor, self.path)
            for directory in [self.path, *self._directories()]:
                sweep(directory)
            yield
        finally:
            os.close(descriptor)

    def _directories(self) -> list[Path]:
        entries = sorted(os.scandir(self.path), key=lambda entry: entry.name)
        return [Path(entry.path) for entry in entries if _is_directory(entry)]

    def _compare(self, hosts: NodeHosts) -> TreeEntry:
        found = read_managed(self.path / hosts.directory, self.instance)
        unmanaged = found.unmanaged or self._other_name(hosts)
        if unmanaged is not None:
            return TreeEntry(hosts.registry, State.UNMANAGED, unmanaged)
        if found.mark is None:
            return TreeEntry(hosts.registry, State.MISSING)
        is_same = found.hosts == self._text(hosts, found.mark.made_directory) and found.ca == self._ca_text(hosts)
        return TreeEntry(hosts.registry, State.IN_SYNC if is_same else State.DRIFTED)

    def _other_name(self, hosts: NodeHosts) -> str | None:
        """Why a directory under the other name that containerd accepts for a port conflicts."""
        other = self.path / hosts.registry / HOSTS_FILE
        if hosts.directory == hosts.registry or not os.path.lexists(other):
            return None
        return f"{other} is not managed by scope-proxy, and hosts.toml in {hosts.directory} would hide it"

    def _apply(self, hosts: NodeHosts) -> TreeEntry:
        entry = self._compare(hosts)
        if entry.state in {State.IN_SYNC, State.UNMANAGED}:
            return entry
        directory = self.path / hosts.directory
        found = read_managed(directory, self.instance)
        if found.exists:
            self._write(directory, hosts, found)
        else:
            create_directory(directory, self._files(hosts))
        return TreeEntry(entry.registry, entry.state, change="written")

    def _write(self, directory: Path, hosts: NodeHosts, found: ManagedFiles) -> None:
        """Write into an existing directory: the CA before the file that names it."""
        ca = self._ca_text(hosts)
        if ca is not None and found.ca != ca:
            write_file(directory / CA_FILE, ca)
        write_file(directory / HOSTS_FILE, self._text(hosts, found.mark is not None and found.mark.made_directory))
        if ca is None and found.ca is not None:
            remove_file(directory / CA_FILE)

    def _files(self, hosts: NodeHosts) -> dict[str, str]:
        ca = self._ca_text(hosts)
        files = {HOSTS_FILE: self._text(hosts, made_directory=True)}
        return files if ca is None else {CA_FILE: ca, **files}

    def _text(self, hosts: NodeHosts, made_directory: bool) -> str:
        return hosts.render(Mark(self.instance, made_directory), with_ca=self.ca is not None)

    def _ca_text(self, hosts: NodeHosts) -> str | None:
        if self.ca is None or not any(proxy.startswith("https://") for proxy in hosts.proxies):
            return None
        return f"{Mark(self.instance)}\n{self.ca}"

    def _orphaned(self, wanted: Sequence[NodeHosts]) -> list[TreeEntry]:
        known = {hosts.directory for hosts in wanted}
        others = [directory for directory in self._directories() if directory.name not in known]
        found = [(directory.name, read_managed(directory, self.instance)) for directory in others]
        return [TreeEntry(name, State.ORPHANED) for name, each in found if each.mark is not None or each.ca is not None]

    def _remove(self, entry: TreeEntry) -> TreeEntry:
        directory = self.path / entry.registry
        found = read_managed(directory, self.instance)
        if found.alone and found.mark is not None and found.mark.made_directory:
            remove_directory(directory)
        else:
            if found.mark is not None:
                remove_file(directory / HOSTS_FILE)
            if found.ca is not None:
                remove_file(directory / CA_FILE)
        return TreeEntry(entry.registry, entry.state, change="removed")


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False) and not is_temporary(entry.name)


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"{path}: locked by another scope-proxy node for {LOCK_TIMEOUT:g} s") from None
            time.sleep(_LOCK_PAUSE)
        else:
            return
