"""Reaching the endpoint: its name, its port, its certificate, its clock, and what `/v2/` answers."""

import asyncio

from aiohttp.resolver import ThreadedResolver

from proxy.config.address import Origin
from proxy.doctor.certificate import check_certificate
from proxy.doctor.challenges import check_ping
from proxy.doctor.clock import check_clock
from proxy.doctor.examination import Examination, Response, Stopped
from proxy.doctor.report import Check
from proxy.doctor.trouble import TROUBLE, Trouble, explain
from proxy.oci.challenge import Challenge
from proxy.transport.addresses import literal_address

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
        answer = await exam.ask("GET", exam.subject.ping)
    except TROUBLE as error:
        _tell_trouble(exam, explain(error, exam.subject.origin))
        raise Stopped("not reached: there is no answer from the endpoint") from error
    _tell_connection(exam, answer)
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


def _tell_connection(exam: Examination, answer: Response) -> None:
    origin = exam.subject.origin
    forward = exam.proxies.proxy_for(origin)
    way = f" through the forward proxy {forward.url}" if forward is not None else ""
    exam.journal.passed(Check.CONNECTION, f"{origin} answers{way}", status=answer.status)


def _tell_trouble(exam: Examination, trouble: Trouble) -> None:
    """The failure stands at the step that it came from; the steps before it have gone well."""
    if trouble.check is Check.TLS:
        exam.journal.passed(Check.CONNECTION, f"{exam.subject.host} takes connections")
    check = Check.CHALLENGE if trouble.check is Check.REDIRECT else trouble.check
    exam.journal.failed(check, trouble.seen, trouble.advice)
