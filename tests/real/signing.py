"""JSON web tokens that docker-registry accepts: ES256 with the certificate chain in `x5c`."""

import base64
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

ISSUER = "token-server.test"
SERVICE = "registry.test"
CLOCK_SKEW = 5  # seconds that a token is dated back
HALF = 32  # bytes of each half of an ES256 signature


class Signer:
    """Signs tokens with a key whose certificate chains to a root of this signer's own."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        leaf = self._authority.issue_cert(ISSUER, key_type=trustme.KeyType.ECDSA)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        self._x5c = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()

    def write_root(self, path: Path) -> None:
        """Write the root certificate, the registry's `rootcertbundle`."""
        self._authority.cert_pem.write_to_path(path)

    def token(self, access: Sequence[dict[str, object]], *, user: str, lifetime: int) -> str:
        """A token that grants `access` for `lifetime` seconds."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - CLOCK_SKEW,
            "exp": now + lifetime,
            "jti": secrets.token_hex(8),
            "access": list(access),
        }
        signed = f"{_part({'typ': 'JWT', 'alg': 'ES256', 'x5c': [self._x5c]})}.{_part(claims)}"
        return f"{signed}.{self._signature(signed.encode())}"

    def _signature(self, signed: bytes) -> str:
        r, s = utils.decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return _text(r.to_bytes(HALF, "big") + s.to_bytes(HALF, "big"))


def _part(value: object) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
