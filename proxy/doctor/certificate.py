"""The certificate of an endpoint: trusted, and for how long."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509

from proxy.config.address import Origin
from proxy.doctor.examination import Examination
from proxy.doctor.handshakes import Handshake
from proxy.doctor.report import Check

NOTICE = timedelta(days=30)
"""How long before its end a certificate is spoken of."""


def check_certificate(exam: Examination) -> None:
    """Tell of the handshake that has been made with the endpoint."""
    origin, journal = exam.subject.origin, exam.journal
    if origin.scheme == "http":
        _tell_plain(exam, origin)
        return
    handshake = exam.handshakes.of(origin.host)
    if handshake is None:
        journal.skipped(Check.TLS, "the certificate was not shown to us")
        return
    ends = _end(handshake)
    if ends is None:
        journal.skipped(Check.TLS, f"{handshake.version}; the certificate cannot be read")
        return
    _tell(exam, handshake.version, ends)


def _tell_plain(exam: Examination, origin: Origin) -> None:
    seen = f"{origin} is plain HTTP"
    if _is_loopback(origin.host):
        exam.journal.skipped(Check.TLS, f"{seen}, on this machine")
    else:
        advice = "use https: everybody on the path can read passwords and change what is pulled"
        exam.journal.warned(Check.TLS, seen, advice)


def _tell(exam: Examination, version: str, ends: datetime) -> None:
    journal, host = exam.journal, exam.subject.host
    days = (ends - datetime.now(UTC)).days
    seen = f"{version}; the certificate ends on {ends:%Y-%m-%d}, in {days} days"
    if exam.host.tls.insecure_skip_verify:
        advice = f"{exam.key}.tls: remove insecureSkipVerify and set caFile: everybody on the path can be {host}"
        journal.warned(Check.TLS, f"{seen}; it is not verified", advice, days=days, verified=False)
    elif ends - datetime.now(UTC) < NOTICE:
        journal.warned(Check.TLS, seen, f"renew the certificate of {host}", days=days, verified=True)
    else:
        journal.passed(Check.TLS, f"{seen}; its chain and name are right", days=days, verified=True)


def _end(handshake: Handshake) -> datetime | None:
    try:
        return x509.load_der_x509_certificate(handshake.certificate).not_valid_after_utc
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
