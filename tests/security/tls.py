"""Certificates of the servers here."""

import ssl

import trustme


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """The TLS of a server with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context
