"""Logging in without an image: whether user name and password are right."""

from collections.abc import Sequence

from proxy.auth.exchange import basic_authorization
from proxy.doctor.examination import Examination
from proxy.doctor.realms import check_realm
from proxy.doctor.report import Check
from proxy.doctor.tokens import ask_token
from proxy.doctor.trouble import TROUBLE
from proxy.oci.challenge import BASIC, Challenge
from proxy.oci.login import Login, LoginKind

REFUSED = frozenset({401, 403})
_OK = 200
_NO_SERVER = "the registry names no token server"


async def check_logins(exam: Examination, challenge: Challenge | None, logins: Sequence[Login]) -> None:
    """Log in with each credential, as `docker login` does."""
    journal = exam.journal
    if challenge is None:
        journal.skipped(Check.REALM, _NO_SERVER)
        journal.skipped(Check.LOGIN, "the registry asks for no login, so none was sent")
        return
    if challenge.scheme == BASIC:
        journal.skipped(Check.REALM, f"{_NO_SERVER}: it takes the password itself (Basic)")
        for login in logins:
            await _check_basic(exam, login)
    else:
        await _check_bearer(exam, challenge, logins)
    if not logins:
        journal.skipped(Check.LOGIN, "there is no credential to log in with")


async def _check_basic(exam: Examination, login: Login) -> None:
    if login.kind is not LoginKind.PASSWORD:
        exam.journal.failed(
            Check.LOGIN, f"{login.name} is no password, and the registry takes no other login", "set one"
        )
        return
    headers = {"Authorization": basic_authorization(login)}
    answer = await exam.ask_for(Check.LOGIN, "GET", exam.subject.ping, headers, 0)
    _tell(exam, login, exam.subject.host, answer.status)


async def _check_bearer(exam: Examination, challenge: Challenge, logins: Sequence[Login]) -> None:
    server = check_realm(exam, challenge)
    for login in logins:
        try:
            answer = await ask_token(exam, server, login, ())
        except TROUBLE as error:
            exam.stop(Check.LOGIN, error, server.origin)
        _tell(exam, login, f"the token server {server.origin.authority}", answer.status)


def _tell(exam: Examination, login: Login, who: str, status: int) -> None:
    seen, journal = f"{who} answers {status} to {login.name}", exam.journal
    if status == _OK:
        journal.passed(Check.LOGIN, seen, credential=login.name, status=status)
    elif status in REFUSED:
        advice = "check user name and password, and whether the account is locked"
        journal.failed(Check.LOGIN, seen, advice, credential=login.name, status=status)
    else:
        advice = "not every server takes a login without a scope: run scope-proxy doctor IMAGE"
        journal.warned(Check.LOGIN, seen, advice, credential=login.name, status=status)
