"""Checks the connection to an endpoint: name, port, certificate, clock, and the authentication it requires."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from aiohttp.resolver import ThreadedResolver
from cryptography import x509

from proxy.config.address import Origin, is_loopback
from proxy.doctor.examination import REQUEST_ERRORS, Examination, Handshake, RequestFailure, Response, Stopped, explain
from proxy.doctor.report import Check, Journal
from proxy.doctor.subject import PulledImage
from proxy.oci.challenge import BASIC, Challenge, choose_challenge, parse_challenges
from proxy.oci.descriptor import ACCEPT, media_type_of
from proxy.oci.scope import REPOSITORY, Scope, parse_scopes
from proxy.transport.addresses import literal_address

WARNING_SECONDS = 60.0
"""Clock difference from which the check warns."""
FAILURE_SECONDS = 300.0
"""Clock difference from which registries refuse tokens as expired or not yet valid."""

_ADVICE = "synchronize both clocks with NTP: tokens and certificates depend on them"


def check_clock(journal: Journal, host: str, date: str | None, at: float) -> None:
    """Compare the Date header of a response with our clock, in seconds since the epoch."""
    theirs = _seconds(date)
    if theirs is None:
        journal.skipped(Check.CLOCK, f"{host} sends no readable Date header")
        return
    skew = round(theirs - at)
    direction = "ahead of" if skew > 0 else "behind"
    seen = f"the clock of {host} is {abs(skew)} s {direction} ours"
    if abs(skew) > FAILURE_SECONDS:
        journal.failed(Check.CLOCK, seen, _ADVICE, skew=skew)
    elif abs(skew) > WARNING_SECONDS:
        journal.warned(Check.CLOCK, seen, _ADVICE, skew=skew)
    else:
        journal.passed(Check.CLOCK, "the clocks agree" if abs(skew) <= 1 else seen, skew=skew)


def _seconds(date: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


NOTICE = timedelta(days=30)
"""How long before a certificate expires the check warns."""


def check_certificate(exam: Examination) -> None:
    """Report the TLS handshake with the endpoint."""
    origin, journal = exam.subject.origin, exam.journal
    if origin.scheme == "http":
        _report_plain(exam, origin)
        return
    handshake = exam.handshakes.of(origin.host)
    if handshake is None:
        journal.skipped(Check.TLS, "the certificate is not available")
        return
    ends = _end(handshake)
    if ends is None:
        journal.skipped(Check.TLS, f"{handshake.version}; cannot read the certificate")
        return
    _report(exam, handshake.version, ends)


def _report_plain(exam: Examination, origin: Origin) -> None:
    seen = f"{origin} is plain HTTP"
    if is_loopback(origin.host):
        exam.journal.skipped(Check.TLS, f"{seen}, on this machine")
    else:
        advice = "use https: anyone on the network path can read passwords and change images"
        exam.journal.warned(Check.TLS, seen, advice)


def _report(exam: Examination, version: str, ends: datetime) -> None:
    journal, host = exam.journal, exam.subject.host
    days = (ends - datetime.now(UTC)).days
    seen = f"{version}; the certificate expires on {ends:%Y-%m-%d}, in {days} days"
    if exam.host.tls.insecure_skip_verify:
        advice = f"{exam.key}.tls: remove insecureSkipVerify and set caFile: anyone on the path can impersonate {host}"
        journal.warned(Check.TLS, f"{seen}; it is not verified", advice, days=days, verified=False)
    elif ends - datetime.now(UTC) < NOTICE:
        journal.warned(Check.TLS, seen, f"renew the certificate of {host}", days=days, verified=True)
    else:
        journal.passed(Check.TLS, f"{seen}; its chain and name are valid", days=days, verified=True)


def _end(handshake: Handshake) -> datetime | None:
    try:
        return x509.load_der_x509_certificate(handshake.certificate).not_valid_after_utc
    except ValueError:
        return None


_NO_PING = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
"""Statuses for `/v2/` of registries with virtual paths; the repository check decides then."""
_CHECK_URL = "check the endpoint's URL: its path must be the registry's API root"


def check_ping(exam: Examination, answer: Response) -> Challenge | None:
    """Judge the response to `/v2/`; returns its challenge, if any."""
    journal, host, status = exam.journal, exam.subject.host, answer.status
    challenge = choose_challenge(parse_challenges(answer.challenges))
    if status == HTTPStatus.UNAUTHORIZED and challenge is not None:
        journal.passed(Check.CHALLENGE, f"{host} answers 401 and {_required(challenge)}", scheme=challenge.scheme)
        return challenge
    if status == HTTPStatus.UNAUTHORIZED:
        advice = "check the reverse proxy in front of the registry: a 401 without a challenge names no authentication"
        journal.failed(Check.CHALLENGE, f"{host} answers 401 without a readable challenge", advice)
    elif answer.elsewhere or "html" in media_type_of(answer.headers.get("Content-Type")):
        seen = f"{host} answers {status} with a web page or from another server: it is no registry"
        journal.failed(Check.CHALLENGE, seen, _CHECK_URL, status=status)
    elif status == HTTPStatus.OK:
        journal.passed(Check.CHALLENGE, f"{host} answers 200: it requires no login here", scheme=None)
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        journal.failed(Check.CHALLENGE, f"{host} answers {status} to /v2/", "check the registry's logs")
    else:
        advice = _CHECK_URL if status in _NO_PING else "try again later, or check the registry's logs"
        journal.warned(Check.CHALLENGE, f"{host} answers {status} to /v2/", advice, status=status)
    return None


async def check_repository(exam: Examination, pulled: PulledImage, ping: Challenge | None) -> Challenge | None:
    """Request the manifest without credentials; returns the challenge, None where no login is required.

    Sends a HEAD, which no registry counts as a pull. Raises Stopped on a refusal without a challenge.
    """
    check, host = Check.REPOSITORY, exam.subject.host
    answer = await exam.request_for(check, "HEAD", pulled.manifest, {"Accept": ACCEPT}, 0)
    challenge = choose_challenge(parse_challenges(answer.challenges))
    if answer.status == HTTPStatus.UNAUTHORIZED and challenge is not None:
        _compare(exam, pulled, challenge)
        return challenge
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = "the registry must send a challenge in WWW-Authenticate, or require no login"
        exam.journal.failed(check, f"{host} answers {answer.status} for {exam.subject.repository}", advice)
        raise Stopped("not run: the registry did not say which authentication it requires")
    if answer.status == HTTPStatus.OK:
        exam.journal.passed(check, f"{host} requires no login for {exam.subject.repository}", scheme=None)
        return None
    seen = f"{host} answers {answer.status} for {exam.subject.repository} and requires no login"
    exam.journal.skipped(check, seen, status=answer.status)
    return ping


def _compare(exam: Examination, pulled: PulledImage, challenge: Challenge) -> None:
    """Compare the challenge's scope with the computed one."""
    journal, host = exam.journal, exam.subject.host
    names = {scope.name for scope in parse_scopes(challenge.scope) if scope.type == REPOSITORY}
    computed = Scope.pull(pulled.target.repository)
    facts = {"scheme": challenge.scheme, "scope": challenge.scope, "computed": str(computed)}
    if challenge.scheme == BASIC or not challenge.scope or computed.name in names:
        named = f", for {challenge.scope}" if challenge.scope else ""
        journal.passed(Check.REPOSITORY, f"{host} {_required(challenge)}{named}", **facts)
    elif pulled.target.scope == "challenge":
        journal.passed(Check.REPOSITORY, f"{host} {_required(challenge)}, and its scope is used", **facts)
    else:
        seen = f"{host} names the scope {challenge.scope}; scope-proxy requests {computed}"
        advice = "if the token is refused, or grants nothing, set scope: challenge on the endpoint"
        journal.warned(Check.REPOSITORY, seen, advice, **facts)


def _required(challenge: Challenge) -> str:
    if challenge.scheme == BASIC:
        return "requires user name and password (Basic)"
    return f"requires a token of {challenge.realm.partition('?')[0]} (Bearer)"


RESOLUTION_SECONDS = 10.0
"""Timeout of one DNS lookup."""
ADDRESSES_SHOWN = 4
"""Maximum number of addresses reported."""


async def check_resolution(exam: Examination) -> None:
    """Resolve the name; raises Stopped where it has no address."""
    origin, journal = exam.subject.origin, exam.journal
    forward = exam.proxies.proxy_for(origin)
    if forward is not None:
        journal.skipped(Check.RESOLUTION, f"the forward proxy {forward.url} resolves the name")
        return
    if literal_address(origin.host) is not None:
        journal.passed(Check.RESOLUTION, f"{origin.host} is an address")
        return
    found = await _addresses(origin)
    if not found:
        advice = "check the name, and DNS of this machine (in a pod: of the cluster)"
        journal.failed(Check.RESOLUTION, f"{origin.host} cannot be resolved", advice)
        raise Stopped("not run: the name cannot be resolved")
    listed = ", ".join(found[:ADDRESSES_SHOWN])
    more = f" and {len(found) - ADDRESSES_SHOWN} more" if len(found) > ADDRESSES_SHOWN else ""
    journal.passed(Check.RESOLUTION, f"{origin.host} is {listed}{more}", addresses=len(found))


async def check_endpoint(exam: Examination) -> Challenge | None:
    """Request `/v2/` and report connection, certificate and clock; returns the challenge, if any. Raises Stopped."""
    try:
        answer = await exam.request("GET", exam.subject.ping)
    except REQUEST_ERRORS as error:
        _report_failure(exam, explain(error, exam.subject.origin))
        raise Stopped("not run: no response from the endpoint") from error
    _report_connection(exam, answer)
    check_certificate(exam)
    check_clock(exam.journal, exam.subject.host, answer.headers.get("Date"), answer.at)
    return check_ping(exam, answer)


async def _addresses(origin: Origin) -> list[str]:
    try:
        async with asyncio.timeout(RESOLUTION_SECONDS):
            results = await ThreadedResolver().resolve(origin.host, origin.port)
    except (OSError, TimeoutError):
        return []
    return list(dict.fromkeys(result["host"] for result in results))


def _report_connection(exam: Examination, answer: Response) -> None:
    origin = exam.subject.origin
    forward = exam.proxies.proxy_for(origin)
    way = f" through the forward proxy {forward.url}" if forward is not None else ""
    exam.journal.passed(Check.CONNECTION, f"{origin} answers{way}", status=answer.status)


def _report_failure(exam: Examination, failure: RequestFailure) -> None:
    """Report the failure at the step where it happened; the steps before it passed."""
    if failure.check is Check.TLS:
        exam.journal.passed(Check.CONNECTION, f"{exam.subject.host} accepts connections")
    check = Check.CHALLENGE if failure.check is Check.REDIRECT else failure.check
    exam.journal.failed(check, failure.seen, failure.advice)
