"""Requests tokens for the scope of a pull, for an unknown one beside it, and for pushing, and judges the responses."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from proxy.doctor.examination import REQUEST_ERRORS, Examination, Stopped, explain
from proxy.doctor.report import Check, Fact
from proxy.doctor.tokens import TokenAnswer, TokenServer, granted_actions, request_token, request_token_by
from proxy.oci.login import ANONYMOUS, Login
from proxy.oci.scope import PULL, Scope, outward_scope, parse_scopes
from proxy.routing.table import Target


def may_have_other_cause(status: int) -> bool:
    """Whether a refusal may have another cause than the scope, so that the valid scope must be requested again."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def strictness(answer: TokenAnswer, scope: Scope) -> tuple[str, str]:
    """`strict` or `tolerant`, and why, by the response to the scope plus an unknown one."""
    if answer.grant is None:
        seen = (
            f"strict: for this scope plus an unknown one the token server {answer.summary}; "
            "an unpatched containerd that rewrites fails here, scope-proxy requests one scope"
        )
        return "strict", seen
    actions = granted_actions(answer.grant.token, scope.name)
    if actions is not None and PULL not in actions:
        seen = (
            "strict: for this scope plus an unknown one the token server answers 200 with a token that grants nothing"
        )
        return "strict", seen
    return "tolerant", "tolerant: for this scope plus an unknown one the token server answers 200"


def push_verdict(answer: TokenAnswer, scope: Scope) -> tuple[str, str]:
    """`refused`, `narrowed`, `granted` or `unknown`, and why, by the answer to a scope with pull and push."""
    if answer.grant is None:
        return "refused", f"refused: the token server {answer.summary} for {scope}"
    actions = granted_actions(answer.grant.token, scope.name)
    if actions is None:
        return "unknown", f"unknown: the token server answers 200 for {scope}, and its tokens are not readable"
    if "push" in actions or "*" in actions:
        return "granted", f"granted: the token server grants {','.join(sorted(actions))} for {scope.name}"
    return "narrowed", f"narrowed: requested {scope}, the token server grants {','.join(sorted(actions)) or 'nothing'}"


def advice_for(status: int, scope: str) -> str:
    """What to do about a refusal of the one scope."""
    match status:
        case HTTPStatus.OK:
            return "check the reverse proxy in front of the token server: this is not a token response"
        case HTTPStatus.UNAUTHORIZED:
            return "check user name and password (docker login), and that the user may pull the repository"
        case HTTPStatus.FORBIDDEN:
            return "give the user the right to pull the repository"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "too many requests: wait, then try again"
        case HTTPStatus.BAD_REQUEST | HTTPStatus.NOT_FOUND:
            return f"it does not know {scope}: check the rewrite rule with scope-proxy explain IMAGE"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"check the token server's logs; some respond like this where {scope} has no project"
        case _:
            return "check the token server's logs"


_NO_TOKEN = "not run: there is no token"  # noqa: S105 - a reason, not a secret


@dataclass(frozen=True, slots=True)
class GrantedLogin:
    """A login, and the response with its token for the scope of the pull."""

    login: Login
    answer: TokenAnswer
    header: str


@dataclass(frozen=True, slots=True)
class ScopeChecks:
    """Requests scopes of one repository from one token server."""

    exam: Examination
    server: TokenServer
    target: Target

    @property
    def scope(self) -> Scope:
        """The one scope that a pull requests."""
        challenged = parse_scopes(self.server.challenge.scope)
        from_challenge = self.target.scope == "challenge"
        return outward_scope(self.target.repository, challenged, from_challenge=from_challenge).requested

    async def check(self, logins: Sequence[Login]) -> tuple[GrantedLogin, ...]:
        """Run all token checks; returns the tokens for the scope of the pull. Raises Stopped where there is none."""
        held = await self._check_one(logins or (ANONYMOUS,))
        if not held:
            raise Stopped(_NO_TOKEN)
        await self._check_unknown(held[0])
        await self._check_push(held[0])
        return held

    async def _check_one(self, logins: Sequence[Login]) -> tuple[GrantedLogin, ...]:
        held: list[GrantedLogin] = []
        refused: list[tuple[Login, TokenAnswer]] = []
        for login in logins:
            try:
                answer = await request_token(self.exam, self.server, login, [self.scope])
            except REQUEST_ERRORS as error:
                self.exam.stop(Check.TOKEN, error, self.server.origin)
            if answer.grant is None:
                refused.append((login, answer))
            else:
                held.append(GrantedLogin(login, answer, f"Bearer {answer.grant.token}"))
        self._report_refused(refused, others_work=bool(held))
        for each in held:
            self._report_granted(each)
        return tuple(held)

    def _report_refused(self, refused: Sequence[tuple[Login, TokenAnswer]], *, others_work: bool) -> None:
        if self.exam.journal.has_failed(Check.CREDENTIAL) and [login for login, _ in refused] == [ANONYMOUS]:
            seen = f"cannot read the credential; without one the token server {refused[0][1].summary}"
            self.exam.journal.skipped(Check.TOKEN, seen)
            return
        for login, answer in refused:
            seen = f"the token server {answer.summary} for {self.scope} with {login.name}"
            report = self.exam.journal.warned if others_work else self.exam.journal.failed
            advice = advice_for(answer.status, str(self.scope))
            report(Check.TOKEN, seen, advice, status=answer.status, credential=login.name, scope=str(self.scope))

    def _report_granted(self, held: GrantedLogin) -> None:
        grant, journal = held.answer.grant, self.exam.journal
        if grant is None:
            raise AssertionError("a token is granted")
        seconds = round(grant.expires_at - grant.fetched_at)
        seen = f"a token for {self.scope} with {held.login.name}, expires in {seconds} s"
        facts: dict[str, Fact] = {"credential": held.login.name, "scope": str(self.scope), "seconds": seconds}
        actions = granted_actions(grant.token, self.scope.name)
        if actions is None or PULL in actions:
            journal.passed(Check.TOKEN, seen, status=held.answer.status, **facts)
        else:
            advice = f"give {held.login.name} the right to pull, or check the rewrite rule: scope-proxy explain IMAGE"
            journal.warned(Check.TOKEN, f"{seen}, which grants nothing", advice, status=held.answer.status, **facts)

    async def _check_unknown(self, held: GrantedLogin) -> None:
        """Request the scope of the pull plus one of a repository that does not exist, as an unpatched node does."""
        unknown = Scope.pull(f"scope-proxy-doctor-{secrets.token_hex(8)}/unknown")
        answer = await self._request(Check.UNKNOWN_SCOPE, held, [self.scope, unknown])
        if answer is None:
            return
        if may_have_other_cause(answer.status):
            again = await self._request(Check.UNKNOWN_SCOPE, held, [self.scope])
            if again is None:
                return
            if again.grant is None:
                seen = f"undecided: the token server {answer.summary}, now also for the one scope alone"
                self.exam.journal.warned(Check.UNKNOWN_SCOPE, seen, "try again later", status=answer.status)
                return
        verdict, seen = strictness(answer, self.scope)
        self.exam.journal.passed(Check.UNKNOWN_SCOPE, seen, verdict=verdict, status=answer.status)

    async def _check_push(self, held: GrantedLogin) -> None:
        """Request a token that could push; push nothing."""
        wide = Scope(self.scope.type, self.scope.name, frozenset({PULL, "push"}))
        answer = await self._request(Check.PUSH_SCOPE, held, [wide])
        if answer is None:
            return
        verdict, seen = push_verdict(answer, wide)
        facts: dict[str, Fact] = {"verdict": verdict, "status": answer.status}
        if verdict == "granted":
            advice = f"a credential that can only pull is enough: remove the push right of {held.login.name}"
            self.exam.journal.warned(Check.PUSH_SCOPE, seen, advice, **facts)
        elif verdict == "unknown":
            self.exam.journal.skipped(Check.PUSH_SCOPE, seen, **facts)
        else:
            self.exam.journal.passed(Check.PUSH_SCOPE, seen, **facts)

    async def _request(self, check: Check, held: GrantedLogin, scopes: Sequence[Scope]) -> TokenAnswer | None:
        """The response, by the method that worked; an error is reported and ends only this check."""
        try:
            return await request_token_by(self.exam, self.server, held.login, scopes, held.answer.method)
        except REQUEST_ERRORS as error:
            failure = explain(error, self.server.origin)
            self.exam.journal.warned(check, f"undecided: {failure.seen}", failure.advice)
            return None
