"""Certificates that private certificate authorities really issue, and what a Go client says of them.

The rows were tried with Go 1.26 as client and, for clients' certificates, as server; `proxy/transport/verification.py`
says more about it.
"""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
VALID = (NOW - DAY, NOW + DAY)
EXPIRED = (NOW - 3 * DAY, NOW - DAY)
NOT_YET = (NOW + DAY, NOW + 3 * DAY)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

_Extensions = Sequence[tuple[x509.ExtensionType, bool]]
"""Each with whether it is critical."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a leaf certificate is for: a server or client by its name or address."""

    name: str
    usage: x509.ObjectIdentifier = SERVER

    @property
    def names(self) -> x509.SubjectAlternativeName:
        try:
            return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(self.name))])
        except ValueError:
            return x509.SubjectAlternativeName([x509.DNSName(self.name)])

    @property
    def other_usage(self) -> x509.ObjectIdentifier:
        return CLIENT if self.usage == SERVER else SERVER


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Chain:
    """What a peer presents, the leaf first, and what the other side trusts."""

    leaf: Signed
    trusted: tuple[Signed, ...]
    between: tuple[Signed, ...] = ()

    @property
    def trusted_pem(self) -> str:
        return "".join(_pem(signed) for signed in self.trusted)

    def trust_file(self, directory: Path) -> Path:
        """The trusted certificates in a file."""
        file = directory / "trusted.pem"
        file.write_text(self.trusted_pem)
        return file

    def load_into(self, context: ssl.SSLContext, directory: Path) -> ssl.SSLContext:
        """Let connections of this context present the chain."""
        key = self.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        file = directory / "chain.pem"
        file.write_text(key + "".join(_pem(signed) for signed in (self.leaf, *self.between)))
        context.load_cert_chain(file)
        return context

    def server(self, directory: Path) -> ssl.SSLContext:
        """The TLS of a server that presents the chain."""
        return self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), directory)


def _pem(signed: Signed) -> str:
    return signed.certificate.public_bytes(Encoding.PEM).decode()


def _sign(
    name: str | None,
    extensions: Callable[[ec.EllipticCurvePrivateKey], _Extensions],
    issuer: Signed | None = None,
    validity: tuple[dt.datetime, dt.datetime] = VALID,
) -> Signed:
    """A certificate for a new key, signed by its issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        subject if issuer is None else issuer.certificate.subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        *validity,
    )
    for extension, critical in extensions(key):
        builder = builder.add_extension(extension, critical)
    return Signed(builder.sign(key if issuer is None else issuer.key, hashes.SHA256()), key)


def key_usage(**allowed: bool) -> x509.KeyUsage:
    """The key usages that are named, and no others."""
    none = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(**none | allowed)


IS_CA = x509.BasicConstraints(ca=True, path_length=None)
IS_LEAF = x509.BasicConstraints(ca=False, path_length=None)
SIGNS = key_usage(key_cert_sign=True, crl_sign=True)


def _key_id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _issuer_id(issuer: Signed) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def authority(
    *extensions: tuple[x509.ExtensionType, bool],
    key_id: bool = True,
    issuer: Signed | None = None,
    validity: tuple[dt.datetime, dt.datetime] = VALID,
) -> Signed:
    """A CA: as RFC 5280 wants one unless extensions are given, root or intermediate."""

    def all_of(key: ec.EllipticCurvePrivateKey) -> _Extensions:
        given = extensions or ((IS_CA, True), (SIGNS, True))
        return (*given, (_key_id(key), False)) if key_id else given

    return _sign("Private root" if issuer is None else "Private issuer", all_of, issuer, validity)


def leaf(
    subject: Subject,
    issuer: Signed,
    *extensions: tuple[x509.ExtensionType, bool],
    name: str | None = "",
    issuer_id: bool = True,
    validity: tuple[dt.datetime, dt.datetime] = VALID,
) -> Signed:
    """A certificate of a CA: as RFC 5280 wants one unless extensions are given; its common name is the subject's."""
    usual = (
        (subject.names, False),
        (IS_LEAF, True),
        (key_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([subject.usage]), False),
    )
    issuer_part = ((_issuer_id(issuer), False),) if issuer_id else ()
    common_name = subject.name if name == "" else name
    return _sign(common_name, lambda _: (*(extensions or usual), *issuer_part), issuer, validity)


def _of(root: Signed, subject: Subject) -> Chain:
    return Chain(leaf(subject, root), (root,))


def _minimal(subject: Subject) -> Chain:
    """What a handful of `openssl` commands make."""
    root = authority((IS_CA, False), key_id=False)
    return Chain(leaf(subject, root, (subject.names, False), issuer_id=False), (root,))


def _unnamed(subject: Subject) -> Chain:
    root = authority()
    return Chain(leaf(subject, root, name=None), (root,))


def _without_issuer_id(subject: Subject) -> Chain:
    root = authority()
    return Chain(leaf(subject, root, issuer_id=False), (root,))


def _leaf_is_ca(subject: Subject) -> Chain:
    root = authority()
    return Chain(leaf(subject, root, (subject.names, False), (IS_CA, True)), (root,))


def _intermediate(subject: Subject, *extensions: tuple[x509.ExtensionType, bool]) -> Chain:
    root = authority()
    issuer = authority(*extensions, issuer=root)
    return Chain(leaf(subject, issuer), (root,), (issuer,))


def _issuer_trusted(subject: Subject) -> Chain:
    chain = _intermediate(subject)
    return Chain(chain.leaf, chain.between)


def _issuer_of_expired_root(subject: Subject) -> Chain:
    root = authority(validity=EXPIRED)
    issuer = authority(issuer=root)
    return Chain(leaf(subject, issuer), (root, issuer))


def _leaf_trusted(subject: Subject, validity: tuple[dt.datetime, dt.datetime] = VALID) -> Chain:
    trusted = leaf(subject, authority(), validity=validity)
    return Chain(trusted, (trusted,))


def _self_signed(subject: Subject) -> Chain:
    made = _sign(subject.name, lambda _: ((subject.names, False), (IS_LEAF, True)))
    return Chain(made, (made,))


def _authority_expired(subject: Subject) -> Chain:
    return _of(authority(validity=EXPIRED), subject)


def _issuer_is_leaf(subject: Subject) -> Chain:
    root = authority()
    issuer = leaf(Subject("other.example"), root)
    return Chain(leaf(subject, issuer), (root,), (issuer,))


def _issuer_missing(subject: Subject) -> Chain:
    chain = _intermediate(subject)
    return Chain(chain.leaf, chain.trusted)


def _other_leaf_trusted(subject: Subject) -> Chain:
    root = authority()
    return Chain(leaf(subject, root), (leaf(subject, root),))


def _expiring(subject: Subject, validity: tuple[dt.datetime, dt.datetime]) -> Chain:
    root = authority()
    return Chain(leaf(subject, root, validity=validity), (root,))


def _other_usage(subject: Subject) -> Chain:
    root = authority()
    usage = x509.ExtendedKeyUsage([subject.other_usage])
    return Chain(leaf(subject, root, (subject.names, False), (usage, False)), (root,))


def _forbidden_name(subject: Subject) -> Chain:
    elsewhere = (x509.DNSName("elsewhere.test"), x509.IPAddress(ipaddress.ip_network("203.0.113.0/24")))
    constraints = x509.NameConstraints(elsewhere, None)
    return _of(authority((IS_CA, True), (SIGNS, True), (constraints, True)), subject)


def _names(subject: Subject, *names: x509.GeneralName) -> Chain:
    """A leaf with the subject's name as its common name, and these alternative names."""
    root = authority()
    extensions = ((x509.SubjectAlternativeName(names), False),) if names else ()
    return Chain(leaf(subject, root, (IS_LEAF, True), *extensions), (root,))


GO_ACCEPTS: dict[str, Callable[[Subject], Chain]] = {
    "as RFC 5280 wants them": lambda subject: _of(authority(), subject),
    "CA: basic constraints not critical": lambda subject: _of(authority((IS_CA, False), (SIGNS, True)), subject),
    "CA: no key usage": lambda subject: _of(authority((IS_CA, True)), subject),
    "CA: no subject key identifier": lambda subject: _of(authority(key_id=False), subject),
    "CA: path length without key usage": lambda subject: _of(
        authority((x509.BasicConstraints(ca=True, path_length=0), True)), subject
    ),
    "intermediate: basic constraints not critical, no authority key identifier": lambda subject: _intermediate(
        subject, (IS_CA, False)
    ),
    "leaf: no authority key identifier": _without_issuer_id,
    "leaf: no subject, names not critical": _unnamed,
    "leaf: marked as CA": _leaf_is_ca,
    "CA and leaf: as few extensions as possible": _minimal,
    "self-signed, trusted itself": _self_signed,
    "leaf trusted itself": _leaf_trusted,
    "intermediate trusted, root unknown": _issuer_trusted,
    "intermediate trusted, root expired": _issuer_of_expired_root,
}
"""Go accepts the leaf for its subject."""

GO_REFUSES: dict[str, Callable[[Subject], Chain]] = {
    "expired": lambda subject: _expiring(subject, EXPIRED),
    "not yet valid": lambda subject: _expiring(subject, NOT_YET),
    "CA expired": _authority_expired,
    "CA unknown": lambda subject: Chain(leaf(subject, authority()), (authority(),)),
    "CA: key usage does not allow signing": lambda subject: _of(
        authority((IS_CA, True), (key_usage(digital_signature=True), True)), subject
    ),
    "CA: marked as leaf": lambda subject: _of(authority((IS_LEAF, True), (SIGNS, True)), subject),
    "CA: other names only": _forbidden_name,
    "issuer is a leaf": _issuer_is_leaf,
    "intermediate missing": _issuer_missing,
    "leaf: other extended key usage": _other_usage,
    "expired leaf trusted itself": lambda subject: _leaf_trusted(subject, EXPIRED),
    "another leaf of the issuer trusted": _other_leaf_trusted,
}
"""Go refuses the leaf, whether a server presents it or a client."""

GO_REFUSES_NAMES: dict[str, Callable[[Subject], Chain]] = {
    "common name only": _names,
    "common name beside an address": lambda subject: _names(
        subject, x509.IPAddress(ipaddress.ip_address("203.0.113.9"))
    ),
    "common name beside an email address": lambda subject: _names(subject, x509.RFC822Name("admin@registry.example")),
    "other name": lambda subject: _names(subject, x509.DNSName("other.example")),
    "other leaf trusted itself": lambda _: _leaf_trusted(Subject("other.example")),
}
"""Go refuses the leaf as that of a server with the subject's name."""
