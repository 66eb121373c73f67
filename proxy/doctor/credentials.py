"""The credentials of an endpoint: each one by its name, and whether it can be read. Nothing is sent anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.auth.credentials.chain import LOGINS_LIMIT
from proxy.auth.credentials.dockerconfig import DockerConfigSource
from proxy.auth.credentials.helper import HelperSource
from proxy.auth.credentials.source import CredentialError, CredentialSource
from proxy.auth.credentials.static import StaticSource
from proxy.auth.exchange import basic_authorization
from proxy.config.credential_names import credential_name, credentials_for
from proxy.config.model import ANY, Credential
from proxy.config.secrets import SecretReader
from proxy.doctor.examination import Examination
from proxy.doctor.report import Check
from proxy.oci.login import Login


@dataclass(frozen=True, slots=True)
class _Named:
    """One configured source, by itself."""

    name: str
    source: CredentialSource
    is_one: bool
    """It is one credential, and not a file or program with any number of them."""


async def check_credentials(
    exam: Examination, helpers: HelperSource, environment: Mapping[str, str]
) -> tuple[Login, ...]:
    """The logins that can be had, in the order in which a pull tries them."""
    found: dict[str, Login] = {}
    sources = _sources(exam, helpers, environment)
    for named in sources:
        for login in await _logins(exam, named):
            exam.journal.hide(login.secret, basic_authorization(login).removeprefix("Basic "))
            found.setdefault(login.identity, login)
    if not sources:
        _tell_none(exam)
    return tuple(found.values())[:LOGINS_LIMIT]


def _sources(exam: Examination, helpers: HelperSource, environment: Mapping[str, str]) -> Sequence[_Named]:
    reader = SecretReader(environment)
    items = [_Named(credential_name(item), _alone(exam, item, reader, helpers), _is_one(item)) for item in _items(exam)]
    files = exam.config.docker_config_files
    return [*items, *(_Named(file, DockerConfigSource(Path(file), helpers), is_one=False) for file in files)]


def _items(exam: Examination) -> Sequence[Credential]:
    repository = exam.subject.repository
    if repository is None:
        return exam.host.credentials
    return credentials_for(exam.config, exam.subject.origin, repository)


def _is_one(item: Credential) -> bool:
    return item.helper is None and item.docker_config_file is None


def _alone(exam: Examination, item: Credential, reader: SecretReader, helpers: HelperSource) -> StaticSource:
    """The source that a pull uses, with this one credential in it: so each is told by itself."""
    host = exam.host.model_copy(update={"credentials": (item.model_copy(update={"repositories": "**"}),)})
    config = exam.config.model_copy(update={"hosts": {ANY: host}})
    file = item.docker_config_file
    files = {} if file is None else {file: DockerConfigSource(Path(file), helpers)}
    return StaticSource(config, reader, helpers, files)


async def _logins(exam: Examination, named: _Named) -> Sequence[Login]:
    journal, host = exam.journal, exam.subject.host
    try:
        logins = await named.source.logins(exam.subject.origin, exam.subject.repository or "")
    except CredentialError as error:
        advice = "mend it, and run scope-proxy check as the user that runs the proxy"
        journal.failed(Check.CREDENTIAL, f"{named.name} cannot be had: {error}", advice, name=named.name)
        return ()
    if not logins:
        journal.skipped(Check.CREDENTIAL, f"{named.name} has no entry for {host}", name=named.name)
    renamed = [replace(login, name=named.name) if named.is_one else login for login in logins]
    for login in renamed:
        journal.passed(
            Check.CREDENTIAL, f"{login.name} can be read ({login.kind})", name=login.name, kind=str(login.kind)
        )
    return renamed


def _tell_none(exam: Examination) -> None:
    journal, host, count = exam.journal, exam.subject.host, len(exam.host.credentials)
    if count:
        seen = f"none of the {count} credentials of {host} is for {exam.subject.repository}: the pull is anonymous"
        journal.warned(Check.CREDENTIAL, seen, f"look at {exam.key}.credentials: which repositories they are for")
    else:
        journal.skipped(Check.CREDENTIAL, f"none is configured for {host}: pulls are anonymous")
