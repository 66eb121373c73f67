"""Watching TLS handshakes: which certificate a server has shown."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Handshake:
    """A handshake that went well."""

    version: str
    certificate: bytes = field(repr=False)
    """In DER."""


class Handshakes:
    """The first handshake with each server, by the name that it was asked under."""

    def __init__(self) -> None:
        self._seen: dict[str, Handshake] = {}

    def watch(self, contexts: Iterable[ssl.SSLContext]) -> None:
        """See all connections made with these contexts from now on."""
        watched = _watching(self._seen)
        for context in contexts:
            context.sslobject_class = watched

    def of(self, host: str) -> Handshake | None:
        """The handshake with a host."""
        return self._seen.get(host)


def _watching(seen: dict[str, Handshake]) -> type[ssl.SSLObject]:
    """A connection that tells what it was shown: the library hands its certificate out only while it is in use."""

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert(binary_form=True)
            if certificate is not None and self.server_hostname is not None:
                seen.setdefault(self.server_hostname, Handshake(self.version() or "TLS", certificate))

    return Watched
