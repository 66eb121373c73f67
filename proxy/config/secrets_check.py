"""Whether every secret that a configuration names can be read, without keeping any."""

from collections.abc import Iterator, Mapping

from proxy.config.errors import Note
from proxy.config.findings import Findings
from proxy.config.loaded import Loaded
from proxy.config.model import Credential
from proxy.config.positions import KeyPath
from proxy.config.secrets import SecretError, SecretReader


def check_secrets(loaded: Loaded, environment: Mapping[str, str] | None = None) -> tuple[Note, ...]:
    """A warning for each secret that cannot be read now; reads the files and variables that are named."""
    findings = Findings(loaded.positions)
    reader = SecretReader(environment)
    for path, credential in _credentials(loaded):
        try:
            reader.read(credential)
        except SecretError as error:
            findings.warning((*path, error.setting), str(error))
    return findings.sorted_notes()


def _credentials(loaded: Loaded) -> Iterator[tuple[KeyPath, Credential]]:
    for name, host in loaded.config.hosts.items():
        for index, credential in enumerate(host.credentials):
            yield ("hosts", name, "credentials", index), credential
