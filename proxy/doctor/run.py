"""Examines all endpoints, a few at a time, each with its own sessions and time limit."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.auth.outward.credentials import HelperSource
from proxy.auth.outward.exchange import basic_authorization
from proxy.config.model import Config
from proxy.doctor.connection import check_endpoint, check_repository, check_resolution
from proxy.doctor.examination import REQUEST_SECONDS, Examination, Handshakes, Stopped
from proxy.doctor.login import check_credentials, check_logins
from proxy.doctor.pull import Pass, check_blob, check_manifests, check_referrers
from proxy.doctor.report import HOST_CHECKS, IMAGE_CHECKS, Check, Finding, HostReport, Journal, Report
from proxy.doctor.scopes import ScopeChecks
from proxy.doctor.subject import PulledImage, Subject
from proxy.doctor.tokens import check_realm
from proxy.oci.challenge import BASIC, Challenge
from proxy.oci.login import Login, LoginKind
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import Sessions, load_tls
from proxy.transport.singleflight import Background

_OF_TOKENS = (Check.REALM, Check.TOKEN, Check.UNKNOWN_SCOPE, Check.PUSH_SCOPE)


async def examine(exam: Examination, helpers: HelperSource, environment: Mapping[str, str]) -> None:
    """Run the checks in order; raises Stopped where the rest depends on a failed one."""
    logins = await check_credentials(exam, helpers, environment)
    await check_resolution(exam)
    challenge = await check_endpoint(exam)
    pulled = exam.subject.pulled
    if pulled is None:
        await check_logins(exam, challenge, logins)
        return
    passes = await _passes(exam, pulled, challenge, logins)
    manifests = await check_manifests(exam, pulled, passes)
    await check_blob(exam, pulled, manifests)
    await check_referrers(exam, pulled, manifests)


async def _passes(
    exam: Examination, pulled: PulledImage, ping: Challenge | None, logins: Sequence[Login]
) -> Sequence[Pass]:
    """The passes of a pull: as the challenge requires, or Basic at once where the configuration says so."""
    passwords = [login for login in logins if login.kind is LoginKind.PASSWORD]
    if exam.host.token_method == "basic" and passwords:  # noqa: S105 - a method, not a secret
        _skip(exam, (Check.REPOSITORY, *_OF_TOKENS), "tokenMethod is basic: the password goes with every request")
        return _basic(passwords)
    challenge = await check_repository(exam, pulled, ping)
    if challenge is None:
        _skip(exam, _OF_TOKENS, "the registry requires no login")
        return [Pass("no credentials", None)]
    if challenge.scheme != BASIC:
        scope_checks = ScopeChecks(exam, check_realm(exam, challenge), pulled.target)
        return [Pass(held.login.name, held.header) for held in await scope_checks.check(logins)]
    _skip(exam, _OF_TOKENS, "the registry accepts the password itself (Basic)")
    if not passwords:
        seen = f"{exam.subject.host} requires user name and password, and none is available"
        if not exam.journal.has_failed(Check.CREDENTIAL):  # its finding says what to do
            exam.journal.failed(Check.HEAD, seen, f"set {exam.key}.credentials")
        raise Stopped("not run: there is no password")
    return _basic(passwords)


def _basic(passwords: Sequence[Login]) -> Sequence[Pass]:
    return [Pass(login.name, basic_authorization(login)) for login in passwords]


def _skip(exam: Examination, checks: Sequence[Check], why: str) -> None:
    for check in checks:
        exam.journal.skipped(check, why)


HOST_SECONDS = 90.0
"""Timeout of all checks of one endpoint."""
PARALLEL = 4
"""Maximum number of endpoints examined concurrently."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Timeouts in seconds."""

    request: float = REQUEST_SECONDS
    host: float = HOST_SECONDS


TIME_LIMITS = TimeLimits()


async def examine_all(
    config: Config, subjects: Sequence[Subject], environment: Mapping[str, str], limits: TimeLimits = TIME_LIMITS
) -> Report:
    """Examine all endpoints; the configured certificates and forward proxies are already validated."""
    places = asyncio.Semaphore(PARALLEL)

    async def one(subject: Subject) -> HostReport:
        async with places:
            return await _examine(config, subject, environment, limits)

    return Report(tuple(await asyncio.gather(*map(one, subjects))))


async def _examine(config: Config, subject: Subject, environment: Mapping[str, str], limits: TimeLimits) -> HostReport:
    journal = Journal(HOST_CHECKS if subject.pulled is None else IMAGE_CHECKS)
    proxies = ForwardProxies.from_environment(environment)
    tls = await asyncio.to_thread(load_tls, config)
    handshakes, background = Handshakes(), Background()
    handshakes.watch(tls.values())
    async with Sessions(config, tls, proxies) as sessions:
        exam = Examination(subject, config, sessions, proxies, handshakes, journal, limits.request)
        try:
            findings = await _bounded(exam, HelperSource(background), environment, limits.host)
        finally:
            await background.close()
    return HostReport(str(subject.address), subject.place, subject.repository, findings)


async def _bounded(
    exam: Examination, helpers: HelperSource, environment: Mapping[str, str], seconds: float
) -> tuple[Finding, ...]:
    why = "not run"
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            await examine(exam, helpers, environment)
    except Stopped as stopped:
        why = str(stopped)
    except TimeoutError:
        if not bound.expired():
            raise
        why = f"not run: all checks together took longer than {seconds:.0f} s"
        exam.journal.failed(exam.journal.next, f"not done within {seconds:.0f} s", "find the slow step above")
    return exam.journal.finish(why)
