"""Certificates of the servers here."""

import ssl
from pathlib import Path

import trustme


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """The TLS of a server with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def listener_files(authority: trustme.CA, directory: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """The `tls` of a listener at 127.0.0.1 with its files in this directory, and the TLS of a client that trusts it."""
    issued, files = authority.issue_cert("127.0.0.1"), (directory / "cert.pem", directory / "key.pem")
    files[0].write_bytes(b"".join(item.bytes() for item in issued.cert_chain_pems))
    files[1].write_bytes(issued.private_key_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return {"certFile": str(files[0]), "keyFile": str(files[1])}, context
