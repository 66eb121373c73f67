import ssl

import aiohttp
import pytest

from proxy.config.address import Origin
from proxy.doctor.examination import explain
from proxy.doctor.report import Check
from proxy.transport.addresses import AddressRefused
from proxy.transport.redirect import RedirectRefused

ORIGIN = Origin.parse("https://r.example:8443")


def verification(code: int) -> aiohttp.ClientSSLError:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_code, inner.verify_message = code, "said by OpenSSL"
    wrapped = aiohttp.ClientSSLError.__new__(aiohttp.ClientSSLError)
    wrapped.__cause__ = inner
    return wrapped


def refused_by_the_resolver() -> aiohttp.ClientConnectionError:
    wrapped = aiohttp.ClientConnectionError()
    wrapped.__cause__ = AddressRefused("store.example is on a private network (10.0.0.1)")
    return wrapped


@pytest.mark.parametrize(
    ("error", "check", "seen"),
    [
        (TimeoutError(), Check.CONNECTION, "did not answer in time"),
        (aiohttp.ServerDisconnectedError(), Check.CONNECTION, "closed the connection"),
        (ConnectionResetError(), Check.CONNECTION, "closed the connection"),
        (aiohttp.ClientPayloadError(), Check.CONNECTION, "in the middle of its response"),
        (aiohttp.InvalidURL("x"), Check.CONNECTION, "sent no HTTP (InvalidURL)"),
        (RedirectRefused("r.example redirects to nowhere"), Check.REDIRECT, "r.example redirects to nowhere"),
        (refused_by_the_resolver(), Check.REDIRECT, "store.example is on a private network"),
        (verification(9), Check.TLS, "the certificate of r.example:8443 is refused: said by OpenSSL"),
    ],
)
def test_the_step_and_the_cause_are_reported(error: BaseException, check: Check, seen: str) -> None:
    trouble = explain(error, ORIGIN)
    assert trouble.check is check
    assert seen in trouble.seen
    assert trouble.advice


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (10, "renew the certificate"),
        (9, "clock of this machine"),
        (62, "its certificate contains"),
        (64, "its certificate contains"),
        (62, "only subject alternative names count"),
        (20, 'hosts."r.example:8443".tls.caFile'),
        (18, 'hosts."r.example:8443".tls.caFile'),
        (26, "check the certificate"),
    ],
)
def test_what_to_do_about_a_certificate(code: int, advice: str) -> None:
    assert advice in explain(verification(code), ORIGIN).advice
