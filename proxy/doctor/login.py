"""Checks the credentials of an endpoint: readable, and accepted by the registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from proxy.auth.outward.credential_chain import LOGINS_LIMIT, StaticSource
from proxy.auth.outward.credentials import CredentialError, CredentialSource, DockerConfigSource, HelperSource
from proxy.auth.outward.exchange import basic_authorization
from proxy.config.credentials import SecretReader, credential_name, credentials_for
from proxy.config.model import ANY, Credential
from proxy.doctor.examination import REQUEST_ERRORS, Examination
from proxy.doctor.report import Check
from proxy.doctor.tokens import check_realm, request_token
from proxy.oci.challenge import BASIC, Challenge
from proxy.oci.login import Login, LoginKind


@dataclass(frozen=True, slots=True)
class _NamedSource:
    """One configured credential source."""

    name: str
    source: CredentialSource
    is_one: bool
    """It is a single credential, not a file or helper with several."""


async def check_credentials(
    exam: Examination, helpers: HelperSource, environment: Mapping[str, str]
) -> tuple[Login, ...]:
    """The readable logins, in the order in which a pull tries them."""
    found: dict[str, Login] = {}
    sources = _sources(exam, helpers, environment)
    for named in sources:
        for login in await _logins(exam, named):
            exam.journal.hide(login.secret, basic_authorization(login).removeprefix("Basic "))
            found.setdefault(login.identity, login)
    if not sources:
        _report_none(exam)
    return tuple(found.values())[:LOGINS_LIMIT]


def _sources(exam: Examination, helpers: HelperSource, environment: Mapping[str, str]) -> Sequence[_NamedSource]:
    reader = SecretReader(environment)
    items = [
        _NamedSource(credential_name(item), _alone(exam, item, reader, helpers), _is_one(item)) for item in _items(exam)
    ]
    files = exam.config.docker_config_files
    return [*items, *(_NamedSource(file, DockerConfigSource(Path(file), helpers), is_one=False) for file in files)]


def _items(exam: Examination) -> Sequence[Credential]:
    repository = exam.subject.repository
    if repository is None:
        return exam.host.credentials
    return credentials_for(exam.config, exam.subject.origin, repository)


def _is_one(item: Credential) -> bool:
    return item.helper is None and item.docker_config_file is None


def _alone(exam: Examination, item: Credential, reader: SecretReader, helpers: HelperSource) -> StaticSource:
    """The credential source of a pull with only this credential, so that each is reported separately."""
    host = exam.host.model_copy(update={"credentials": (item.model_copy(update={"repositories": "**"}),)})
    config = exam.config.model_copy(update={"hosts": {ANY: host}})
    file = item.docker_config_file
    files = {} if file is None else {file: DockerConfigSource(Path(file), helpers)}
    return StaticSource(config, reader, helpers, files)


async def _logins(exam: Examination, named: _NamedSource) -> Sequence[Login]:
    journal, host = exam.journal, exam.subject.host
    try:
        logins = await named.source.logins(exam.subject.origin, exam.subject.repository or "")
    except CredentialError as error:
        advice = "fix it and run scope-proxy check as the service user"
        journal.failed(Check.CREDENTIAL, f"cannot read {named.name}: {error}", advice, name=named.name)
        return ()
    if not logins:
        journal.skipped(Check.CREDENTIAL, f"{named.name} has no entry for {host}", name=named.name)
    renamed = [replace(login, name=named.name) if named.is_one else login for login in logins]
    for login in renamed:
        journal.passed(
            Check.CREDENTIAL, f"{login.name} can be read ({login.kind})", name=login.name, kind=str(login.kind)
        )
    return renamed


def _report_none(exam: Examination) -> None:
    journal, host, count = exam.journal, exam.subject.host, len(exam.host.credentials)
    if count:
        seen = f"none of the {count} credentials of {host} is for {exam.subject.repository}: the pull is anonymous"
        journal.warned(Check.CREDENTIAL, seen, f"check the repositories of {exam.key}.credentials")
    else:
        journal.skipped(Check.CREDENTIAL, f"none is configured for {host}: pulls are anonymous")


REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NO_SERVER = "the registry names no token server"


async def check_logins(exam: Examination, challenge: Challenge | None, logins: Sequence[Login]) -> None:
    """Log in with each credential, as `docker login` does."""
    journal = exam.journal
    if challenge is None:
        journal.skipped(Check.REALM, _NO_SERVER)
        journal.skipped(Check.LOGIN, "the registry requires no login, so none was sent")
        return
    if challenge.scheme == BASIC:
        journal.skipped(Check.REALM, f"{_NO_SERVER}: it accepts the password itself (Basic)")
        for login in logins:
            await _check_basic(exam, login)
    else:
        await _check_bearer(exam, challenge, logins)
    if not logins:
        journal.skipped(Check.LOGIN, "there is no credential to log in with")


async def _check_basic(exam: Examination, login: Login) -> None:
    if login.kind is not LoginKind.PASSWORD:
        exam.journal.failed(
            Check.LOGIN, f"{login.name} is not a password, and the registry accepts only passwords", "set one"
        )
        return
    headers = {"Authorization": basic_authorization(login)}
    answer = await exam.request_for(Check.LOGIN, "GET", exam.subject.ping, headers, 0)
    _report(exam, login, exam.subject.host, answer.status)


async def _check_bearer(exam: Examination, challenge: Challenge, logins: Sequence[Login]) -> None:
    server = check_realm(exam, challenge)
    for login in logins:
        try:
            answer = await request_token(exam, server, login, ())
        except REQUEST_ERRORS as error:
            exam.stop(Check.LOGIN, error, server.origin)
        _report(exam, login, f"the token server {server.origin.authority}", answer.status)


def _report(exam: Examination, login: Login, who: str, status: int) -> None:
    seen, journal = f"{who} answers {status} to {login.name}", exam.journal
    if status == HTTPStatus.OK:
        journal.passed(Check.LOGIN, seen, credential=login.name, status=status)
    elif status in REFUSED:
        advice = "check user name and password, and whether the account is locked"
        journal.failed(Check.LOGIN, seen, advice, credential=login.name, status=status)
    else:
        advice = "some servers refuse a login without a scope: run scope-proxy doctor IMAGE"
        journal.warned(Check.LOGIN, seen, advice, credential=login.name, status=status)
