"""A throw-away certificate for the TLS listeners of all peers, and the CA that the clients trust."""

from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: the chain and key that every peer shows, and the CA."""

    chain: Path
    key: Path
    authority: Path

    @classmethod
    def made(cls, directory: Path) -> "Certificate":
        """A new one, ECDSA on P-256, in files of a directory."""
        authority = trustme.CA()
        leaf = authority.issue_cert(HOST)
        made = cls(directory / "tls.crt", directory / "tls.key", directory / "ca.crt")
        leaf.cert_chain_pems[0].write_to_path(made.chain)
        leaf.private_key_pem.write_to_path(made.key)
        authority.cert_pem.write_to_path(made.authority)
        return made
