"""The whole run: every endpoint with sessions of its own, a few at a time, each bounded in time."""

import asyncio
from collections.abc import Mapping, Sequence

from proxy.auth.credentials.helper import HelperSource
from proxy.config.model import Config
from proxy.doctor.examination import Examination, Stopped
from proxy.doctor.examine import examine
from proxy.doctor.handshakes import Handshakes
from proxy.doctor.journal import Journal
from proxy.doctor.report import HOST_CHECKS, IMAGE_CHECKS, Finding, HostReport, Report
from proxy.doctor.subject import Subject
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import Sessions, load_tls
from proxy.transport.singleflight import Background

HOST_SECONDS = 90.0
"""For all checks of one endpoint."""
PARALLEL = 4
"""Endpoints that are examined at once."""


async def examine_all(config: Config, subjects: Sequence[Subject], environment: Mapping[str, str]) -> Report:
    """Examine all endpoints; certificates and forward proxies of the configuration are known to be of use."""
    places = asyncio.Semaphore(PARALLEL)

    async def one(subject: Subject) -> HostReport:
        async with places:
            return await _examine(config, subject, environment)

    return Report(tuple(await asyncio.gather(*map(one, subjects))))


async def _examine(config: Config, subject: Subject, environment: Mapping[str, str]) -> HostReport:
    journal = Journal(HOST_CHECKS if subject.pulled is None else IMAGE_CHECKS)
    proxies = ForwardProxies.from_environment(environment)
    tls = await asyncio.to_thread(load_tls, config)
    handshakes, background = Handshakes(), Background()
    handshakes.watch(tls.values())
    async with Sessions(config, tls, proxies) as sessions:
        exam = Examination(subject, config, sessions, proxies, handshakes, journal)
        try:
            findings = await _bounded(exam, HelperSource(background), environment)
        finally:
            await background.close()
    return HostReport(str(subject.address), subject.place, subject.repository, findings)


async def _bounded(exam: Examination, helpers: HelperSource, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    why = "it was not come to"
    bound = asyncio.timeout(HOST_SECONDS)
    try:
        async with bound:
            await examine(exam, helpers, environment)
    except Stopped as stopped:
        why = str(stopped)
    except TimeoutError:
        if not bound.expired():
            raise
        why = f"not reached: all checks together took longer than {HOST_SECONDS:.0f} s"
        exam.journal.failed(exam.journal.next, f"not done within {HOST_SECONDS:.0f} s", "look at what is slow above")
    return exam.journal.finish(why)
