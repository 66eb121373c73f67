"""Files that the configuration is made of: whether they have changed."""

import os
from collections.abc import Iterable
from pathlib import Path

from proxy.config.model import Config

Stamps = tuple[tuple[int, ...] | None, ...]
"""What tells one state of some files from another; None for one that is not there."""


def stamps(paths: Iterable[str | os.PathLike[str]]) -> Stamps:
    """The state of files; links are followed, as Kubernetes swaps them. Blocks."""
    return tuple(_stamp(Path(path)) for path in paths)


def tls_stamps(config: Config) -> Stamps:
    """The state of the certificates that are used towards upstreams; blocks."""
    return stamps(tls_files(config))


def tls_files(config: Config) -> tuple[str, ...]:
    """The files of certificates and keys under `hosts`."""
    sections = [host.tls for host in config.hosts.values()]
    files = [file for tls in sections for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None]
    return tuple(dict.fromkeys(files))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
