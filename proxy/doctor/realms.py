"""The token server that a challenge names: nothing is sent to it before it has been judged."""

from dataclasses import dataclass

from yarl import URL

from proxy.auth.realm import BUILT_IN_REALMS, RealmRefused, judge_realm
from proxy.config.address import Origin
from proxy.doctor.examination import Examination, Stopped
from proxy.doctor.report import Check
from proxy.oci.challenge import Challenge


@dataclass(frozen=True, slots=True)
class TokenServer:
    """A token server that is trusted."""

    url: URL
    origin: Origin
    service: str | None
    challenge: Challenge


def check_realm(exam: Examination, challenge: Challenge) -> TokenServer:
    """The token server of a Bearer challenge; raises Stopped where it is not trusted."""
    journal, upstream = exam.journal, exam.subject.origin
    trusted = frozenset(Origin.parse(realm) for realm in exam.host.realms)
    named = challenge.realm.partition("?")[0]
    try:
        url, origin = judge_realm(challenge.realm, upstream, trusted)
    except RealmRefused as error:
        seen = f"{exam.subject.host} names the token server {named}, which is not trusted: nothing was sent to it"
        advice = f"if it is the right one, {error.line}" if error.line else f"have the registry mended: {error}"
        journal.failed(Check.REALM, seen, advice, realm=named)
        raise Stopped("not reached: the token server is not trusted, and nothing was sent to it") from error
    why = _why(origin, upstream, trusted)
    if upstream.scheme == "https" and origin.scheme == "http":
        advice = "have it name an https address: passwords go there unencrypted"
        journal.warned(Check.REALM, f"the token server {origin} is trusted ({why}) and plain HTTP", advice, realm=named)
    else:
        journal.passed(Check.REALM, f"the token server {origin} is trusted: {why}", realm=named)
    return TokenServer(url, origin, challenge.service, challenge)


def _why(origin: Origin, upstream: Origin, trusted: frozenset[Origin]) -> str:
    if origin == upstream:
        return "it is the registry's own origin"
    return "it is listed in realms" if origin in trusted else f"it is built in for {_built_in(origin)}"


def _built_in(origin: Origin) -> str:
    return next(upstream.authority for upstream, realm in BUILT_IN_REALMS.items() if realm == origin)
