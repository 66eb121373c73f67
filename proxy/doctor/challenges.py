"""What the endpoint wants to be shown: the challenges of `/v2/` and of the repository."""

from proxy.doctor.examination import Examination, Response, Stopped
from proxy.doctor.report import Check
from proxy.doctor.subject import Pulled
from proxy.oci.challenge import BASIC, Challenge, choose_challenge, parse_challenges
from proxy.oci.descriptor import ACCEPT, media_type_of
from proxy.oci.scope import REPOSITORY, Scope, parse_scopes

_OK = 200
_UNAUTHORIZED = 401
_NO_PING = frozenset({403, 404})
"""What registries with virtual paths answer to `/v2/`; then the repository itself tells."""
_SERVER_ERROR = 500
_WHAT_IS_THERE = "check the endpoint's URL: its path must be the registry's API root"


def check_ping(exam: Examination, answer: Response) -> Challenge | None:
    """Judge the answer to `/v2/`; its challenge, if it has one."""
    journal, host, status = exam.journal, exam.subject.host, answer.status
    challenge = choose_challenge(parse_challenges(answer.challenges))
    if status == _UNAUTHORIZED and challenge is not None:
        journal.passed(Check.CHALLENGE, f"{host} answers 401 and {_wanted(challenge)}", scheme=challenge.scheme)
        return challenge
    if status == _UNAUTHORIZED:
        advice = "look at what stands before the registry: a 401 without a challenge says not what is wanted"
        journal.failed(Check.CHALLENGE, f"{host} answers 401 without a challenge that can be read", advice)
    elif answer.elsewhere or "html" in media_type_of(answer.headers.get("Content-Type")):
        seen = f"{host} answers {status} with a web page, or from another server: no registry is there"
        journal.failed(Check.CHALLENGE, seen, _WHAT_IS_THERE, status=status)
    elif status == _OK:
        journal.passed(Check.CHALLENGE, f"{host} answers 200: it asks for no login here", scheme=None)
    elif status >= _SERVER_ERROR:
        journal.failed(Check.CHALLENGE, f"{host} answers {status} to /v2/", "look at the registry's own logs")
    else:
        advice = _WHAT_IS_THERE if status in _NO_PING else "try again later, or look at the registry's own logs"
        journal.warned(Check.CHALLENGE, f"{host} answers {status} to /v2/", advice, status=status)
    return None


async def check_repository(exam: Examination, pulled: Pulled, ping: Challenge | None) -> Challenge | None:
    """Ask for the manifest without credentials; the challenge to answer, None where nothing is asked for.

    A HEAD, which no registry counts as a pull. Raises Stopped where it says not what it wants.
    """
    check, host = Check.REPOSITORY, exam.subject.host
    answer = await exam.ask_for(check, "HEAD", pulled.manifest, {"Accept": ACCEPT}, 0)
    challenge = choose_challenge(parse_challenges(answer.challenges))
    if answer.status == _UNAUTHORIZED and challenge is not None:
        _compare(exam, pulled, challenge)
        return challenge
    if answer.status in (_UNAUTHORIZED, 403):
        advice = "the registry must name its token server in WWW-Authenticate, or take no login at all"
        exam.journal.failed(check, f"{host} answers {answer.status} for {exam.subject.repository}", advice)
        raise Stopped("not reached: the registry says not which login it wants")
    if answer.status == _OK:
        exam.journal.passed(check, f"{host} asks for no login for {exam.subject.repository}", scheme=None)
        return None
    seen = f"{host} answers {answer.status} for {exam.subject.repository} and asks for nothing"
    exam.journal.skipped(check, seen, status=answer.status)
    return ping


def _compare(exam: Examination, pulled: Pulled, challenge: Challenge) -> None:
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
