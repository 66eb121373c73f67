"""Certificates and keys in PEM. Imported only with TLS: the cryptography library takes several MiB."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def first_certificate(data: bytes) -> x509.Certificate:
    """The first certificate; raises ValueError if there is none that can be parsed."""
    return x509.load_pem_x509_certificates(data)[0]


def is_key_of(certificate: x509.Certificate, data: bytes) -> bool:
    """Whether the key belongs to the certificate; raises TypeError if encrypted, ValueError if it is not a key."""
    try:
        return load_pem_private_key(data, password=None).public_key() == certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
