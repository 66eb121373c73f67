"""How certificates of servers and clients are verified: as Go does it, on every Python.

Nodes pull with Go. Python 3.13 adds `VERIFY_X509_STRICT` to its default context, older ones do not, and none of them
trusts an intermediate certificate before 3.13; so a registry that nodes can pull from would fail here. Go's rules,
tried with Go 1.26.8 as client and server, and OpenSSL's under these flags, tried with Python 3.11, 3.12 and 3.13 on
OpenSSL 3.0.19 and with Python 3.13 on OpenSSL 3.5.9:

- Both accept a CA whose basic constraints are not critical, one without key usage or subject key identifier, one of
  X.509 version 1; a leaf without authority key identifier, with an empty subject, or marked as a CA; the serial number
  zero, and one of 21 bytes. The strict flag refuses all but the serial numbers.
- Both trust every certificate of the CA file by itself: an intermediate, the leaf, an intermediate of an expired root.
- Both refuse what has expired, another name, an issuer that is not trusted or not a CA (by its basic constraints, or
  by a key usage without signing), a name that the CA may not certify, and a leaf whose extended key usage is another.
- Both refuse a server's name that is its common name only. Python and curl accept it by default.

What remains different, with these flags as with curl: OpenSSL refuses RSA keys below 2048 bits, `anyExtendedKeyUsage`
alone, a key usage that allows no key exchange, an authority key identifier of another key, a leaf that has the subject
of its CA, and a wildcard right below a top-level domain (`*.example`), which Go accepts. It accepts a negative serial
number, as Go did before 1.23, and a trusted CA without basic constraints whose key usage allows signing, which Go
refuses.
"""

import ssl

_FLAGS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


def verify_as_go(context: ssl.SSLContext) -> ssl.SSLContext:
    """Verify what peers of this context present as Go does; its verify mode and CAs stay."""
    context.verify_flags = _FLAGS  # assigned, not added: what a Python sets by itself must not count
    context.hostname_checks_common_name = False
    return context


def client_context(ca_file: str | None = None, ca_pem: str | None = None) -> ssl.SSLContext:
    """A context for connections to servers, TLS 1.2 at least; without CAs those of the system count.

    Raises OSError for a file that cannot be used, ssl.SSLError (an OSError) for certificates that cannot.
    """
    context = ssl.create_default_context(cafile=ca_file, cadata=ca_pem)  # noqa: TID251 - here alone
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return verify_as_go(context)
