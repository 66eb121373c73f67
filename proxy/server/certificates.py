"""The files of a TLS listener: read, and judged before anybody is served with them. Blocking calls."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proxy.config.errors import SettingError
from proxy.config.file_state import require_regular
from proxy.config.listener import ListenerTls
from proxy.config.positions import KeyPath

PEM_LIMIT = 1024 * 1024
"""Most bytes of a file of certificates or of a key."""
EXPIRY_NOTICE = timedelta(days=30)
"""How long before its end a certificate is spoken of."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A certificate that can be served with its key."""

    file: str
    ends: datetime

    @property
    def has_ended(self) -> bool:
        """Whether clients refuse it."""
        return self.ends <= datetime.now(UTC)

    @property
    def notice(self) -> str | None:
        """What the operator should know of its end, if that is near or past."""
        if self.has_ended:
            return f"the certificate in {self.file} ended on {self.ends:%Y-%m-%d}: clients refuse it, renew it"
        if self.ends - datetime.now(UTC) < EXPIRY_NOTICE:
            return f"the certificate in {self.file} ends on {self.ends:%Y-%m-%d}: renew it"
        return None


def judge(tls: ListenerTls, path: KeyPath) -> Judged:
    """The certificate of a listener, whose key and authorities fit.

    Raises SettingError for a setting below `path`; it names the file, and repeats nothing of its content.
    """
    from proxy.server import pem  # noqa: PLC0415 - it loads a library that plain listeners do not need

    where = (*path, "certFile")
    data = _read(tls.cert_file, where)
    try:
        certificate = pem.first_certificate(data)
    except ValueError:
        raise SettingError(where, f"{tls.cert_file} holds no certificate in PEM that can be used") from None
    where = (*path, "keyFile")
    data = _read(tls.key_file, where)
    try:
        fits = pem.is_key_of(certificate, data)
    except TypeError:
        raise SettingError(where, f"{tls.key_file} is encrypted: write the key without a password") from None
    except ValueError:
        raise SettingError(where, f"{tls.key_file} holds no private key in PEM that can be used") from None
    if not fits:
        raise SettingError(where, f"{tls.key_file} is not the key of the first certificate in {tls.cert_file}")
    if tls.client_ca_file is not None:
        _judge_authorities(tls.client_ca_file, (*path, "clientCaFile"))
    return Judged(tls.cert_file, certificate.not_valid_after_utc)


def _judge_authorities(file: str, path: KeyPath) -> None:
    _read(file, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file)
    except OSError:
        raise SettingError(path, f"{file} holds no certificates in PEM that can be used") from None


def _read(file: str, path: KeyPath) -> bytes:
    try:
        require_regular(file)
        with Path(file).open("rb") as opened:
            data = opened.read(PEM_LIMIT + 1)
    except OSError as error:
        raise SettingError(path, f"cannot read {file}: {error.strerror}") from None
    if len(data) > PEM_LIMIT:
        raise SettingError(path, f"{file} is larger than {PEM_LIMIT >> 20} MiB: this is no PEM file")
    return data
