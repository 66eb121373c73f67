"""The order of the checks of one endpoint."""

from collections.abc import Mapping, Sequence

from proxy.auth.credentials.helper import HelperSource
from proxy.auth.exchange import basic_authorization
from proxy.doctor.blobs import check_blob
from proxy.doctor.challenges import check_repository
from proxy.doctor.credentials import check_credentials
from proxy.doctor.examination import Examination, Stopped
from proxy.doctor.logins import check_logins
from proxy.doctor.manifests import Pass, check_manifests
from proxy.doctor.reach import check_endpoint, check_resolution
from proxy.doctor.realms import check_realm
from proxy.doctor.referrers import check_referrers
from proxy.doctor.report import Check
from proxy.doctor.scopes import ScopeChecks
from proxy.doctor.subject import Pulled
from proxy.oci.challenge import BASIC, Challenge
from proxy.oci.login import Login, LoginKind

_OF_TOKENS = (Check.REALM, Check.TOKEN, Check.UNKNOWN_SCOPE, Check.PUSH_SCOPE)


async def examine(exam: Examination, helpers: HelperSource, environment: Mapping[str, str]) -> None:
    """Make every check that can be made; raises Stopped where the rest depends on what has failed."""
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


async def _passes(exam: Examination, pulled: Pulled, ping: Challenge | None, logins: Sequence[Login]) -> Sequence[Pass]:
    """How a pull would be let in: as the registry says, or by Basic at once where the configuration says so."""
    passwords = [login for login in logins if login.kind is LoginKind.PASSWORD]
    if exam.host.token_method == "basic" and passwords:  # noqa: S105 - a method, not a secret
        _skip(exam, (Check.REPOSITORY, *_OF_TOKENS), "tokenMethod is basic: the password goes with every request")
        return _basic(passwords)
    challenge = await check_repository(exam, pulled, ping)
    if challenge is None:
        _skip(exam, _OF_TOKENS, "the registry asks for no login")
        return [Pass("no credentials", None)]
    if challenge.scheme != BASIC:
        asker = ScopeChecks(exam, check_realm(exam, challenge), pulled.target)
        return [Pass(held.login.name, held.header) for held in await asker.check(logins)]
    _skip(exam, _OF_TOKENS, "the registry takes the password itself (Basic)")
    if not passwords:
        seen = f"{exam.subject.host} wants user name and password, and there are none"
        if not exam.journal.has_failed(Check.CREDENTIAL):  # then it has been told what to do
            exam.journal.failed(Check.HEAD, seen, f"set {exam.key}.credentials")
        raise Stopped("not reached: there is no password")
    return _basic(passwords)


def _basic(passwords: Sequence[Login]) -> Sequence[Pass]:
    return [Pass(login.name, basic_authorization(login)) for login in passwords]


def _skip(exam: Examination, checks: Sequence[Check], why: str) -> None:
    for check in checks:
        exam.journal.skipped(check, why)
