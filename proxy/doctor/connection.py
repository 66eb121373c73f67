"""Connection to an endpoint: its name, its port, its certificate, its clock, and what it wants to be shown."""

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
"""A difference of the clocks from which it is spoken of."""
FAILURE_SECONDS = 300.0
"""A difference from which tokens are refused as expired, or as not yet valid."""

_ADVICE = "set the clocks by NTP, here and there: tokens and certificates are judged by them"


def check_clock(journal: Journal, host: str, date: str | None, at: float) -> None:
    """Compare the Date header of an answer with our clock, in seconds since the epoch."""
    theirs = _seconds(date)
    if theirs is None:
        journal.skipped(Check.CLOCK, f"{host} sends no Date header that can be read")
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
"""How long before its end a certificate is spoken of."""


def check_certificate(exam: Examination) -> None:
    """Tell of the handshake that has been made with the endpoint."""
    origin, journal = exam.subject.origin, exam.journal
    if origin.scheme == "http":
        _report_plain(exam, origin)
        return
    handshake = exam.handshakes.of(origin.host)
    if handshake is None:
        journal.skipped(Check.TLS, "the certificate was not shown to us")
        return
    ends = _end(handshake)
    if ends is None:
        journal.skipped(Check.TLS, f"{handshake.version}; the certificate cannot be read")
        return
    _report(exam, handshake.version, ends)


def _report_plain(exam: Examination, origin: Origin) -> None:
    seen = f"{origin} is plain HTTP"
    if is_loopback(origin.host):
        exam.journal.skipped(Check.TLS, f"{seen}, on this machine")
    else:
        advice = "use https: everybody on the path can read passwords and change what is pulled"
        exam.journal.warned(Check.TLS, seen, advice)


def _report(exam: Examination, version: str, ends: datetime) -> None:
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


_NO_PING = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
"""What registries with virtual paths answer to `/v2/`; then the repository itself tells."""
_WHAT_IS_THERE = "check the endpoint's URL: its path must be the registry's API root"


def check_ping(exam: Examination, answer: Response) -> Challenge | None:
    """Judge the answer to `/v2/`; its challenge, if it has one."""
    journal, host, status = exam.journal, exam.subject.host, answer.status
    challenge = choose_challenge(parse_challenges(answer.challenges))
    if status == HTTPStatus.UNAUTHORIZED and challenge is not None:
        journal.passed(Check.CHALLENGE, f"{host} answers 401 and {_wanted(challenge)}", scheme=challenge.scheme)
        return challenge
    if status == HTTPStatus.UNAUTHORIZED:
        advice = "look at what stands before the registry: a 401 without a challenge says not what is wanted"
        journal.failed(Check.CHALLENGE, f"{host} answers 401 without a challenge that can be read", advice)
    elif answer.elsewhere or "html" in media_type_of(answer.headers.get("Content-Type")):
        seen = f"{host} answers {status} with a web page, or from another server: no registry is there"
        journal.failed(Check.CHALLENGE, seen, _WHAT_IS_THERE, status=status)
    elif status == HTTPStatus.OK:
        journal.passed(Check.CHALLENGE, f"{host} answers 200: it asks for no login here", scheme=None)
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        journal.failed(Check.CHALLENGE, f"{host} answers {status} to /v2/", "look at the registry's own logs")
    else:
        advice = _WHAT_IS_THERE if status in _NO_PING else "try again later, or look at the registry's own logs"
        journal.warned(Check.CHALLENGE, f"{host} answers {status} to /v2/", advice, status=status)
    return None


async def check_repository(exam: Examination, pulled: PulledImage, ping: Challenge | None) -> Challenge | None:
    """Ask for the manifest without credentials; the challenge to answer, None where nothing is asked for.

    A HEAD, which no registry counts as a pull. Raises Stopped where it says not what it wants.
    """
    check, host = Check.REPOSITORY, exam.subject.host
    answer = await exam.request_for(check, "HEAD", pulled.manifest, {"Accept": ACCEPT}, 0)
    challenge = choose_challenge(parse_challenges(answer.challenges))
    if answer.status == HTTPStatus.UNAUTHORIZED and challenge is not None:
        _compare(exam, pulled, challenge)
        return challenge
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = "the registry must name its token server in WWW-Authenticate, or take no login at all"
        exam.journal.failed(check, f"{host} answers {answer.status} for {exam.subject.repository}", advice)
        raise Stopped("not reached: the registry says not which login it wants")
    if answer.status == HTTPStatus.OK:
        exam.journal.passed(check, f"{host} asks for no login for {exam.subject.repository}", scheme=None)
        return None
    seen = f"{host} answers {answer.status} for {exam.subject.repository} and asks for nothing"
    exam.journal.skipped(check, seen, status=answer.status)
    return ping


def _compare(exam: Examination, pulled: PulledImage, challenge: Challenge) -> None:
    """Whether the challenge names the scope that we compute."""
    journal, host = exam.journal, exam.subject.host
    names = {scope.name for scope in parse_scopes(challenge.scope) if scope.type == REPOSITORY}
    computed = Scope.pull(pulled.target.repository)
    facts = {"scheme": challenge.scheme, "scope": challenge.scope, "computed": str(computed)}
    if challenge.scheme == BASIC or not challenge.scope or computed.name in names:
        named = f", for {challenge.scope}" if challenge.scope else ""
        journal.passed(Check.REPOSITORY, f"{host} {_wanted(challenge)}{named}", **facts)
    elif pulled.target.scope == "challenge":
        journal.passed(Check.REPOSITORY, f"{host} {_wanted(challenge)}, and its scope is taken", **facts)
    else:
        seen = f"{host} names the scope {challenge.scope}, and {computed} is asked for"
        advice = "if the token is refused, or grants nothing, set scope: challenge on the endpoint"
        journal.warned(Check.REPOSITORY, seen, advice, **facts)


def _wanted(challenge: Challenge) -> str:
    if challenge.scheme == BASIC:
        return "wants user name and password (Basic)"
    return f"wants a token of {challenge.realm.partition('?')[0]} (Bearer)"


RESOLUTION_SECONDS = 10.0
"""For one look-up of a name."""
ADDRESSES_SHOWN = 4
"""Most addresses that are told."""


async def check_resolution(exam: Examination) -> None:
    """Look up the name; raises Stopped where it has no address."""
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
        raise Stopped("not reached: the name cannot be resolved")
    shown = ", ".join(found[:ADDRESSES_SHOWN])
    more = f" and {len(found) - ADDRESSES_SHOWN} more" if len(found) > ADDRESSES_SHOWN else ""
    journal.passed(Check.RESOLUTION, f"{origin.host} is {shown}{more}", addresses=len(found))


async def check_endpoint(exam: Examination) -> Challenge | None:
    """Ask for `/v2/`, and tell of all that is seen on the way; the challenge, if there is one. Raises Stopped."""
    try:
        answer = await exam.request("GET", exam.subject.ping)
    except REQUEST_ERRORS as error:
        _report_failure(exam, explain(error, exam.subject.origin))
        raise Stopped("not reached: there is no answer from the endpoint") from error
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
    """The failure stands at the step that it came from; the steps before it have gone well."""
    if failure.check is Check.TLS:
        exam.journal.passed(Check.CONNECTION, f"{exam.subject.host} takes connections")
    check = Check.CHALLENGE if failure.check is Check.REDIRECT else failure.check
    exam.journal.failed(check, failure.seen, failure.advice)
