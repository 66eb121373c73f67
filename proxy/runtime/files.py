"""Files that the configuration is made of: whether they have changed."""

import os
from collections.abc import Iterable

from proxy.config.file_state import FileState, state_of
from proxy.config.model import Config

Stamps = tuple[FileState | None, ...]
"""What tells one state of some files from another; None for one that is not there."""


def stamps(paths: Iterable[str | os.PathLike[str]]) -> Stamps:
    """The state of files; links are followed, as Kubernetes swaps them. Blocks."""
    return tuple(state_of(path) for path in paths)


def tls_stamps(config: Config) -> Stamps:
    """The state of the certificates that are used towards upstreams; blocks."""
    return stamps(tls_files(config))


def tls_files(config: Config) -> tuple[str, ...]:
    """The files of certificates and keys under `hosts`."""
    sections = [host.tls for host in config.hosts.values()]
    files = [file for tls in sections for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None]
    return tuple(dict.fromkeys(files))
