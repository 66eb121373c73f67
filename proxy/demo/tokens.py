"""The strict token endpoint: it knows some repositories and refuses every other scope."""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.demo.answer import Answer, error_answer, json_answer
from proxy.demo.record import Call
from proxy.demo.rules import ANONYMOUS, Account, Rules, find_account, presents_credential

DEFAULT_LIFE = 60
"""Seconds that a token lives when the answer does not say (distribution's token specification)."""

_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN"}


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What a token allows, and until when."""

    number: int  # 1 for the first token
    scopes: frozenset[str]
    expires: float  # by the issuer's clock, seconds


class TokenIssuer:
    """Judges token requests by plain comparison of strings and remembers what it granted."""

    def __init__(
        self,
        rules: Rules,
        repositories: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._repositories = repositories
        self._clock = clock
        self._grants: dict[str, IssuedToken] = {}

    def answer(self, call: Call) -> Answer:
        """The answer to a token request."""
        if call.method == "POST" and not self.rules.post:
            return error_answer(405, "UNSUPPORTED", "the token endpoint takes GET only", [("Allow", "GET")])
        if call.method not in {"GET", "POST"}:
            return error_answer(405, "UNSUPPORTED", "the token endpoint takes GET and POST", [("Allow", "GET, POST")])
        account = self._account(call)
        if account is None:
            challenge = ("WWW-Authenticate", f'Basic realm="{self.rules.service}"')
            return error_answer(401, "UNAUTHORIZED", "authentication required", [challenge])
        return self._judge(call, account)

    def grant(self, token: str) -> IssuedToken | None:
        """What a token allows now; None when it is unknown, revoked or expired."""
        grant = self._grants.get(token)
        return grant if grant is not None and self._clock() < grant.expires else None

    def revoke_all(self) -> None:
        """Make every token so far worthless."""
        self._grants = {token: IssuedToken(grant.number, grant.scopes, 0.0) for token, grant in self._grants.items()}

    def number(self, token: str) -> int:
        """The number of a token, even of one that is dead; 0 for one that was never issued."""
        grant = self._grants.get(token)
        return 0 if grant is None else grant.number

    def _account(self, call: Call) -> Account | None:
        if presents_credential(call):
            return find_account(call, self.rules.accounts)
        return ANONYMOUS if self.rules.open_to_all else None

    def _judge(self, call: Call, account: Account) -> Answer:
        asked = [scope for parameter in call.values("scope") for scope in parameter.split(" ") if scope]
        good = {f"repository:{name}:pull" for name in self._repositories() if account.may_pull(name)}
        refused = [scope for scope in asked if scope not in good]
        if refused and self.rules.refuse is not None:
            code = _CODES.get(self.rules.refuse, "UNKNOWN")
            return error_answer(self.rules.refuse, code, f"no such scope here: {' '.join(refused)}")
        return self._issue(frozenset(asked) & good)

    def _issue(self, scopes: frozenset[str]) -> Answer:
        token = secrets.token_urlsafe(24)
        life = DEFAULT_LIFE if self.rules.expires_in is None else self.rules.expires_in
        self._grants[token] = IssuedToken(len(self._grants) + 1, scopes, self._clock() + life)
        document: dict[str, object] = dict.fromkeys(self.rules.fields, token)
        if self.rules.expires_in is not None:
            document["expires_in"] = self.rules.expires_in
        return json_answer(200, document)
