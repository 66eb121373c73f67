"""Tokens for the scope of a pull, for an unknown one beside it, and for pushing."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.doctor.access import granted_actions
from proxy.doctor.examination import Examination, Stopped
from proxy.doctor.realms import TokenServer
from proxy.doctor.report import Check, Fact
from proxy.doctor.tokens import OK, TokenAnswer, ask_by, ask_token
from proxy.doctor.trouble import TROUBLE, explain
from proxy.doctor.verdicts import advice_for, push_verdict, strictness, tells_little
from proxy.oci.login import ANONYMOUS, Login
from proxy.oci.scope import PULL, Scope, outward_scope, parse_scopes
from proxy.routing.table import Target

_NO_TOKEN = "not reached: there is no token"  # noqa: S105 - a reason, not a secret


@dataclass(frozen=True, slots=True)
class Held:
    """A login, and the answer that gave it a token for the scope of the pull."""

    login: Login
    answer: TokenAnswer
    header: str


@dataclass(frozen=True, slots=True)
class ScopeChecks:
    """Asks one token server for scopes of one repository."""

    exam: Examination
    server: TokenServer
    target: Target

    @property
    def scope(self) -> Scope:
        """The one scope that a pull asks for."""
        challenged = parse_scopes(self.server.challenge.scope)
        from_challenge = self.target.scope == "challenge"
        return outward_scope(self.target.repository, challenged, from_challenge=from_challenge).asked

    async def check(self, logins: Sequence[Login]) -> tuple[Held, ...]:
        """All checks of tokens; the tokens for the scope of the pull. Raises Stopped where there is none."""
        held = await self._check_one(logins or (ANONYMOUS,))
        if not held:
            raise Stopped(_NO_TOKEN)
        await self._check_unknown(held[0])
        await self._check_push(held[0])
        return held

    async def _check_one(self, logins: Sequence[Login]) -> tuple[Held, ...]:
        held: list[Held] = []
        refused: list[tuple[Login, TokenAnswer]] = []
        for login in logins:
            try:
                answer = await ask_token(self.exam, self.server, login, [self.scope])
            except TROUBLE as error:
                self.exam.stop(Check.TOKEN, error, self.server.origin)
            if answer.grant is None:
                refused.append((login, answer))
            else:
                held.append(Held(login, answer, f"Bearer {answer.grant.token}"))
        self._tell_refused(refused, others_work=bool(held))
        for each in held:
            self._tell_granted(each)
        return tuple(held)

    def _tell_refused(self, refused: Sequence[tuple[Login, TokenAnswer]], *, others_work: bool) -> None:
        if self.exam.journal.has_failed(Check.CREDENTIAL) and [login for login, _ in refused] == [ANONYMOUS]:
            seen = f"the credential cannot be read; without one the token server {refused[0][1].told}"
            self.exam.journal.skipped(Check.TOKEN, seen)
            return
        for login, answer in refused:
            seen = f"the token server {answer.told} for {self.scope} with {login.name}"
            told = self.exam.journal.warned if others_work else self.exam.journal.failed
            advice = advice_for(answer.status, str(self.scope))
            told(Check.TOKEN, seen, advice, status=answer.status, credential=login.name, scope=str(self.scope))

    def _tell_granted(self, held: Held) -> None:
        grant, journal = held.answer.grant, self.exam.journal
        if grant is None:
            raise AssertionError("a token is held")
        life = round(grant.expires_at - grant.fetched_at)
        seen = f"a token for {self.scope} with {held.login.name}, good for {life} s"
        facts: dict[str, Fact] = {"credential": held.login.name, "scope": str(self.scope), "seconds": life}
        actions = granted_actions(grant.token, self.scope.name)
        if actions is None or PULL in actions:
            journal.passed(Check.TOKEN, seen, status=OK, **facts)
        else:
            advice = f"give {held.login.name} the right to pull, or look at the rewrite rule: scope-proxy explain IMAGE"
            journal.warned(Check.TOKEN, f"{seen}, which grants nothing", advice, status=OK, **facts)

    async def _check_unknown(self, held: Held) -> None:
        """The scope of the pull and one of a repository that nobody has: the two scopes of an unpatched node."""
        unknown = Scope.pull(f"scope-proxy-doctor-{secrets.token_hex(8)}/unknown")
        answer = await self._ask(Check.UNKNOWN_SCOPE, held, [self.scope, unknown])
        if answer is None:
            return
        if tells_little(answer.status):
            again = await self._ask(Check.UNKNOWN_SCOPE, held, [self.scope])
            if again is None:
                return
            if again.grant is None:
                seen = f"undecided: the token server {answer.told}, and now also to the one scope alone"
                self.exam.journal.warned(Check.UNKNOWN_SCOPE, seen, "try again later", status=answer.status)
                return
        verdict, seen = strictness(answer, self.scope)
        self.exam.journal.passed(Check.UNKNOWN_SCOPE, seen, verdict=verdict, status=answer.status)

    async def _check_push(self, held: Held) -> None:
        """Ask for a token that could push; nothing is pushed with it."""
        wide = Scope(self.scope.type, self.scope.name, frozenset({PULL, "push"}))
        answer = await self._ask(Check.PUSH_SCOPE, held, [wide])
        if answer is None:
            return
        verdict, seen = push_verdict(answer, wide)
        facts: dict[str, Fact] = {"verdict": verdict, "status": answer.status}
        if verdict == "granted":
            advice = f"a credential that can only pull is enough: take the right to push from {held.login.name}"
            self.exam.journal.warned(Check.PUSH_SCOPE, seen, advice, **facts)
        elif verdict == "unknown":
            self.exam.journal.skipped(Check.PUSH_SCOPE, seen, **facts)
        else:
            self.exam.journal.passed(Check.PUSH_SCOPE, seen, **facts)

    async def _ask(self, check: Check, held: Held, scopes: Sequence[Scope]) -> TokenAnswer | None:
        """The answer, by the method that has worked; trouble is told and ends only this check."""
        try:
            return await ask_by(self.exam, self.server, held.login, scopes, held.answer.method)
        except TROUBLE as error:
            trouble = explain(error, self.server.origin)
            self.exam.journal.warned(check, f"undecided: {trouble.seen}", trouble.advice)
            return None
