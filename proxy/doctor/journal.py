"""The journal of one examination: findings as they come, with nothing in them that may not be shown."""

from collections.abc import Iterable
from types import MappingProxyType

from proxy.doctor.report import Check, Fact, Finding, Outcome
from proxy.log import redact

TEXT_LIMIT = 400
"""Longest sentence in characters: parts of it are chosen by registries."""
SECRET_LENGTH = 8
"""Characters that a secret has at the least for its text to be looked for: a shorter one stands in many words."""

_HIDDEN = "<redacted>"


class Journal:
    """Takes findings; what registries have put into them is bounded, printable, and holds none of our secrets."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = tuple(checks)
        self._findings: list[Finding] = []
        self._secrets: set[str] = set()

    def hide(self, *secrets: str) -> None:
        """Never show these, even where a registry sends them back to us."""
        self._secrets |= {secret.lower() for secret in secrets if len(secret) >= SECRET_LENGTH}

    def passed(self, check: Check, seen: str, **facts: Fact) -> None:
        """All is well."""
        self._add(check, Outcome.PASSED, seen, "", facts)

    def warned(self, check: Check, seen: str, advice: str, **facts: Fact) -> None:
        """It works, and something should be done."""
        self._add(check, Outcome.WARNED, seen, advice, facts)

    def failed(self, check: Check, seen: str, advice: str, **facts: Fact) -> None:
        """It does not work."""
        self._add(check, Outcome.FAILED, seen, advice, facts)

    def skipped(self, check: Check, why: str, **facts: Fact) -> None:
        """It was not looked at, or could not be told."""
        self._add(check, Outcome.SKIPPED, why, "", facts)

    def has_failed(self, check: Check) -> bool:
        """Whether a failure of this check is told."""
        return any(finding.check is check and finding.outcome is Outcome.FAILED for finding in self._findings)

    @property
    def next(self) -> Check:
        """The first check that nothing is told of, else the last one."""
        told = {finding.check for finding in self._findings}
        return next((check for check in self._checks if check not in told), self._checks[-1])

    def finish(self, why: str) -> tuple[Finding, ...]:
        """All findings in their order; what was not come to is skipped for this reason."""
        told = {finding.check for finding in self._findings}
        for check in self._checks:
            if check not in told:
                self.skipped(check, why)
        return tuple(sorted(self._findings, key=lambda finding: list(Check).index(finding.check)))

    def _add(self, check: Check, outcome: Outcome, seen: str, advice: str, facts: dict[str, Fact]) -> None:
        shown = {name: self._clean(value) if isinstance(value, str) else value for name, value in facts.items()}
        finding = Finding(check, outcome, self._clean(seen), self._clean(advice), MappingProxyType(shown))
        self._findings.append(finding)

    def _clean(self, text: str) -> str:
        """One printable line: a registry must not write to the terminal, nor make us show what we sent it."""
        for secret in self._secrets:
            while (at := text.lower().find(secret)) >= 0:
                text = text[:at] + _HIDDEN + text[at + len(secret) :]
        text = "".join(character if character.isprintable() else "?" for character in redact(text))
        return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."
